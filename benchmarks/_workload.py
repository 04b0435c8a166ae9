"""The same keys, values, tags and order of requests for every subject."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import accumulate

__all__ = ["SEED", "TTL", "make_keys", "make_values", "tagged_chunks", "uniform", "zipf"]

SEED = 20261123
TTL = 3600
TEAMS = 1000
CHUNK = 1000


def make_keys(count: int) -> list[str]:
    """Keys as applications have them, each a string of its own."""
    return [f"user:{number:08d}" for number in range(count)]


def make_values(count: int) -> list[bytes]:
    """One object of 100 bytes for each key."""
    return [b"%0100d" % number for number in range(count)]


def zipf(keys: Sequence[str], count: int, seed: int = SEED) -> list[str]:
    """Requests by Zipf's law with exponent 1; which keys are the popular ones is left to chance,
    so that they don't lie side by side in memory.
    """
    chance = random.Random(seed)
    ranked = chance.sample(keys, len(keys))
    weights = accumulate(1 / rank for rank in range(1, len(keys) + 1))
    return chance.choices(ranked, cum_weights=list(weights), k=count)


def uniform(keys: Sequence[str], count: int, seed: int = SEED) -> list[str]:
    """Requests that prefer no key: the worst for the processor's caches."""
    return random.Random(seed).choices(keys, k=count)


def tagged_chunks(
    keys: Sequence[str], values: Sequence[object]
) -> Iterator[tuple[dict[str, object], tuple[str, str]]]:
    """Small batches with their two tags: one that all entries have, one of a thousand teams."""
    for start in range(0, len(keys), CHUNK):
        batch = dict(zip(keys[start : start + CHUNK], values[start : start + CHUNK], strict=True))
        yield batch, ("users", f"team:{start // CHUNK % TEAMS}")
