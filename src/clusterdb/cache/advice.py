"""Advice on one region: what another size or policy would have hit, and what the traffic is like.

Pure: made of a :class:`.Profile` and the limits in force. Sizes are in entries. The policies are
replayed on the last sampled requests, each in a table that is smaller by the share of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from .policy import POLICIES
from .profile import Profile
from .replay import replay

__all__ = ["Advice", "advise"]

_ENOUGH: Final = 500
_HOTTEST: Final = 10
_WORTH: Final = 0.01
_LOOP: Final = 0.3
_SCAN: Final = 0.5
_REPLAYED: Final = ("lru", "s3fifo", "w_tinylfu", "arc", "sieve", "lfu")
_NEIGHBOURS: Final = 4


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """What a region's last requests say of its settings. Ratios are shares of requests, 0 to 1.

    ``hit_ratio`` is what was counted. ``curve``: sizes in entries, and what an LRU of the size
    would hit; ``at`` the same at half, same, double and ten times the present size. ``enough``: the
    size from which on doubling gains less than one percent. ``policies``: what each would have hit
    on the sample, at the present size; ``better`` is the best of them where it gains more than one
    percent over the present one, by ``gain``. ``hot_keys`` with their share of the hits. ``loop``:
    so many keys are asked for round and round, more than fit; ``scan``: the share of keys that came
    once. ``sampled`` requests stand behind it; with fewer than 500 there is no advice but the
    counts.
    """

    region: str
    policy: str
    size: int
    hit_ratio: float
    sampled: int
    curve: tuple[tuple[int, float], ...] = ()
    at: dict[str, float] = {}
    enough: int | None = None
    policies: dict[str, float] = {}
    better: str | None = None
    gain: float = 0.0
    hot_keys: tuple[tuple[str, float], ...] = ()
    loop: int | None = None
    scan: float | None = None


def advise(region: str, policy: str, size: int, hit_ratio: float, profile: Profile) -> Advice:
    """Look at a profile. ``size`` is the number of entries that fit, or that are there. Replays up
    to 16,384 requests for each of seven policies: a tenth of a second to a second.
    """
    sampled = int(profile.requests())
    plain = Advice(region=region, policy=policy, size=size, hit_ratio=hit_ratio, sampled=sampled)
    if sampled < _ENOUGH or size < 1:
        return plain
    curve = _trimmed([(int(at), ratio) for at, ratio in profile.curve()])
    policies = _replayed(profile, policy, size)
    best = max(policies, key=policies.__getitem__)
    gain = policies[best] - policies[policy]
    return msgspec.structs.replace(
        plain,
        curve=curve,
        at={name: _ratio(curve, size * times) for name, times in _SIZES.items()},
        enough=_enough(curve),
        policies=policies,
        better=best if gain > _WORTH else None,
        gain=max(0.0, gain),
        hot_keys=tuple(profile.hot()[:_HOTTEST]),
        loop=_loop(profile.distances(), size),
        scan=profile.cold() if profile.cold() > _SCAN else None,
    )


_SIZES: Final = {"half": 0.5, "same": 1.0, "double": 2.0, "tenfold": 10.0}


def _trimmed(curve: Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    """Without repeated sizes, and without the end where nothing is gained any more."""
    kept: dict[int, float] = {}
    top = curve[-1][1]
    for size, ratio in curve:
        kept[size] = ratio
        if ratio >= top:
            break
    return tuple(kept.items())


def _ratio(curve: Sequence[tuple[int, float]], size: float) -> float:
    """What a size hits: between two points, in proportion."""
    below, low = 0, 0.0
    for at, ratio in curve:
        if at >= size:
            return low + (ratio - low) * (size - below) / (at - below)
        below, low = at, ratio
    return low


def _enough(curve: Sequence[tuple[int, float]]) -> int | None:
    for size, ratio in curve:
        if _ratio(curve, 2 * size) - ratio < _WORTH and ratio > curve[-1][1] / 2:
            return size
    return None


def _replayed(profile: Profile, policy: str, size: int) -> dict[str, float]:
    requests = [str(key) for key in profile.recent()]
    capacity = max(1, round(size * profile.share))
    names = dict.fromkeys((policy, "adaptive", *_REPLAYED))
    return {
        name: replay(requests, name, capacity) / max(1, len(requests))
        for name in names
        if name in POLICIES
    }


def _loop(distances: Sequence[tuple[float, float]], size: int) -> int | None:
    """The distance round which very many reuses lie, if it is more than fits."""
    best, share = 0.0, 0.0
    for at in range(len(distances)):
        band = distances[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS + 1]
        near = sum([part for _, part in band])
        if near > share:
            best, share = sum([distance * part for distance, part in band]) / near, near
    return int(best) if share > _LOOP and best > size else None
