"""Which weights would even out a ring, and which keys would move by that. Pure.

A server that gets more points takes keys from all others, one that gets fewer gives to all others;
so where only one server is changed, no key moves that does not have to. Servers are changed one by
one, the one that is furthest off first, each to the number of points with which it would have the
mean; and a change is left out that would make more than `MOST` times as many keys move as have to,
for what the servers then hold.

Keys are given by their places on the ring. A plan counts how many lie between two points, so that
it costs a search for each point, and not for each key.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from .balance import least_moves
from .hashing import hash64, hash_tag

__all__ = ["MOST", "Flows", "Reweighed", "place_of", "reweighed"]

MOST: Final = 1.1
_ROUNDS: Final = 4
_LARGEST: Final = 16

Flows = dict[tuple[str, str], int]
"""How many keys go from one server to another."""


class Reweighed(NamedTuple):
    """The weights to place keys by, what servers have ``before`` and ``after``, and what moves."""

    weights: dict[str, float]
    before: dict[str, int]
    after: dict[str, int]
    flows: Flows

    @property
    def keys(self) -> int:
        """How many keys move."""
        return sum(self.flows.values())

    @property
    def least(self) -> int:
        """How many would have to, for servers to have what they then have."""
        return least_moves(self.before, self.after)


def place_of(key: bytes) -> int:
    """Where a key is on the ring."""
    return _place(hash_tag(key))


def _place(text: bytes) -> int:
    return int.from_bytes(hash64(text), "big")


class _Points:
    """The points of servers, each made once."""

    def __init__(self, places: Sequence[int]) -> None:
        self._places = places
        self._of: dict[str, list[int]] = {}

    def of(self, name: str, count: int) -> list[int]:
        known = self._of.setdefault(name, [])
        known += [_place(f"{name}#{n}".encode()) for n in range(len(known), count)]
        return known[:count]

    def flows(self, old: Mapping[str, int], new: Mapping[str, int]) -> Flows:
        """How many keys each pair of servers has in common: as owner by the old numbers of points,
        and by the new ones.
        """
        rings = [self._ring(old), self._ring(new)]
        ends = sorted({place for ring in rings for place, _ in ring})
        owners = [_owners(ring, ends) for ring in rings]
        upto = [bisect_right(self._places, end) for end in ends]
        found: Flows = {}
        below = 0
        for at, (was, becomes) in enumerate(zip(*owners, strict=True)):
            found[was, becomes] = found.get((was, becomes), 0) + upto[at] - below
            below = upto[at]
        around = owners[0][0], owners[1][0]
        found[around] = found.get(around, 0) + len(self._places) - below
        return found

    def _ring(self, counts: Mapping[str, int]) -> list[tuple[int, str]]:
        return sorted([(place, name) for name, n in counts.items() for place in self.of(name, n)])


def _owners(ring: Sequence[tuple[int, str]], ends: Sequence[int]) -> list[str]:
    """Who has what lies before each of ``ends``, which are in order."""
    owners: list[str] = []
    at = 0
    for end in ends:
        while at < len(ring) and ring[at][0] < end:
            at += 1
        owners.append(ring[at][1] if at < len(ring) else ring[0][1])
    return owners


def reweighed(
    weights: Mapping[str, float], virtual_nodes: int, places: Sequence[int], threshold: float
) -> Reweighed:
    """Weights under which no server is further from the mean than half of ``threshold``, as near as
    that can be reached; the present ones where none is further than all of it. ``places`` are those
    of the keys, in order.
    """
    points = _Points(places)
    old = {name: max(1, int(virtual_nodes * weight + 0.5)) for name, weight in weights.items()}
    before = _loads(points.flows(old, old), 1, old)
    mean = len(places) / len(old)
    best = Reweighed(dict(weights), before, before, {})
    if _furthest(before, mean) <= threshold * mean:
        return best
    now = dict(old)
    for _ in range(_ROUNDS * len(old)):
        if _furthest(best.after, mean) <= threshold / 2 * mean:
            break
        for name in sorted(old, key=lambda each: -abs(best.after[each] - mean)):
            trial = _changed(points, now, name, mean, _LARGEST * virtual_nodes)
            found = _result(points, old, trial, virtual_nodes)
            nearer = _off(found.after, mean) < _off(best.after, mean)
            if nearer and found.keys <= MOST * found.least:
                best, now = found, trial
                break
        else:
            break
    return best


def _changed(
    points: _Points, now: Mapping[str, int], name: str, mean: float, largest: int
) -> dict[str, int]:
    """``now``, with that number of points for one server by which it has about the mean."""

    def load(count: int) -> int:
        trial = {**now, name: count}
        return _loads(points.flows(trial, trial), 1, trial)[name]

    low = _first(lambda count: load(count) >= mean, 1, largest)
    nearest = min((max(1, low - 1), low), key=lambda count: abs(load(count) - mean))
    return {**now, name: nearest}


def _first(true: Callable[[int], bool], low: int, high: int) -> int:
    """The first number for which it is ``true``, as it is for all behind it; else the last one."""
    while low < high:
        middle = (low + high) // 2
        if true(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _result(
    points: _Points, old: Mapping[str, int], new: Mapping[str, int], virtual_nodes: int
) -> Reweighed:
    flows = points.flows(old, new)
    return Reweighed(
        {name: count / virtual_nodes for name, count in new.items()},
        _loads(flows, 0, old),
        _loads(flows, 1, old),
        {pair: keys for pair, keys in flows.items() if keys and pair[0] != pair[1]},
    )


def _loads(flows: Flows, side: int, names: Mapping[str, int]) -> dict[str, int]:
    loads = dict.fromkeys(names, 0)
    for pair, keys in flows.items():
        loads[pair[side]] += keys
    return loads


def _furthest(loads: Mapping[str, int], mean: float) -> float:
    return max(abs(load - mean) for load in loads.values())


def _off(loads: Mapping[str, int], mean: float) -> float:
    """How far servers are from the mean, all together; far ones count more."""
    return sum([(load - mean) ** 2 for load in loads.values()])
