"""The keys that are read most: counted on the servers, or of a sample of one's own reads.

A process has seen no read of another. A Redis can tell every command it carries out, so reads are
counted there, exactly, for a while; of those the near tiers answer it knows nothing, so that a key
which is hot in every process may be missing. A server's own estimate (``OBJECT FREQ``) was
rejected: it is there under LFU only, and takes a look at every key. A memory backend and a file are
read inside of their programs, each of which samples its own reads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec

from .advice import Advice
from .patterns import Reads

__all__ = ["HotKeys", "Tally", "count_reads", "sampled"]

_MOST: Final = 100_000


class HotKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The most read keys of a region, each with how often it was read and its share, 0 to 1.

    Counted for ``seconds``: the share is that of all ``reads``. ``exact``: no key was left out of
    the count, which happens beyond 100,000 of them. Of a sample ``seconds`` and the keys' reads are
    ``None``, ``reads`` are those in the sample, and the share is that of the hits.
    """

    region: str
    seconds: float | None
    reads: int
    exact: bool
    keys: tuple[tuple[str, int | None, float], ...]


class Tally:
    """Counts of keys, in bounded memory: beyond ``most`` the half that was read least is forgotten,
    and counted anew where it comes again.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._counts: Counter[bytes] = Counter()
        self.reads = 0
        self.exact = True

    def heard(self, key: bytes) -> None:
        """A key was read."""
        self.reads += 1
        self._counts[key] += 1
        if len(self._counts) > self._most:
            self.exact = False
            self._counts = Counter(dict(self._counts.most_common(self._most // 2)))

    def hottest(self, count: int) -> list[tuple[str, int, float]]:
        """The ``count`` keys that were read most, with their reads and their share."""
        return [
            (_read(key), reads, reads / self.reads)
            for key, reads in self._counts.most_common(count)
        ]

    def hot_keys(self, region: str, seconds: float, count: int) -> HotKeys:
        """What was counted in ``seconds``."""
        keys = tuple(self.hottest(count))
        return HotKeys(
            region=region, seconds=seconds, reads=self.reads, exact=self.exact, keys=keys
        )


async def count_reads(
    reads: Reads, seconds: float, tally: Tally, begun: Callable[[], None] = lambda: None
) -> None:
    """Count for so long; ``begun`` is called once reads are heard."""
    try:
        await reads.open()
        begun()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await reads.listen(tally.heard)
    finally:
        await reads.aclose()


def sampled(advice: Advice, count: int) -> HotKeys:
    """The hottest keys of the sample that an advice is made of."""
    return HotKeys(
        region=advice.region,
        seconds=None,
        reads=advice.sampled,
        exact=False,
        keys=tuple([(key, None, share) for key, share in advice.hot_keys[:count]]),
    )


def _read(key: bytes) -> str:
    """A key as its program has it, of one as ``MONITOR`` writes it: with what is not printable
    escaped.
    """
    raw = key.decode("unicode_escape").encode("latin-1")
    return raw.decode(errors="backslashreplace")
