"""How regions share one total of bytes: each has what gains the most hits, by marginal benefit.

A region's *demand* is how many hits it would have had lately at each size; it comes from the reuse
distances of its sampled requests (:class:`.Profile`). The total is handed out step by step:
always to the region that gains the most hits for the next bytes. Where a curve is not concave, as
that of a loop, which hits nothing until all of it fits, the whole step up to its upper hull is one
offer, else no part of it would ever seem worth it. Sources: H. Stone, J. Turek and J. Wolf,
"Optimal Partitioning of Cache Memory", IEEE Transactions on Computers 41(9), 1992; N. Beckmann and
D. Sanchez, "Talus", HPCA 2015, for the hull.

**Slowly, and only for a reason.** Nothing moves for less than 1% of the requests, and at most a
sixteenth of the total moves at a time: a curve is an estimate, of an LRU, from a sample. Each
region keeps a tenth of an even split, so that one that wakes up can show what it is worth.

Pure: sizes are bytes, or a weigher's unit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["Demand", "Wish", "decide", "floor_of", "split", "spread"]

_FADING: Final = 0.8
_ENOUGH: Final = 2000.0
_WORTH: Final = 0.01
_STEP: Final = 16
_FLOOR: Final = 10
_OCTAVE: Final = 8
_ROUNDING: Final = 1e-9

Reuses = tuple[float, Sequence[float]]
"""All requests so far, and how many of them were reuses at each distance, as a profile has them."""


class Demand:
    """What the requests of one region were like lately: the last looks count most."""

    def __init__(self) -> None:
        self.requests = 0.0
        self._counts: list[float] = []
        self._before: Reuses = (0.0, ())

    def look(self, now: Reuses) -> None:
        """Take in what was counted since the last look."""
        requests, counts = now
        before, seen = self._before
        self._before = requests, tuple(counts)
        past = [*seen, *[0.0] * (len(counts) - len(seen))]
        known = [*self._counts, *[0.0] * (len(counts) - len(self._counts))]
        self.requests = self.requests * _FADING + max(0.0, requests - before)
        self._counts = [
            old * _FADING + count - gone
            for old, count, gone in zip(known, counts, past, strict=True)
        ]

    def curve(self, weight: float) -> list[tuple[float, float]]:
        """Sizes, and the hits they would have had; ``weight`` is that of an entry, as a mean."""
        hits, most, points = 0.0, 0.0, []
        for index, count in enumerate(self._counts):
            hits += count
            most = max(most, hits)  # a sample's counts may fall: more memory never loses hits
            points.append((2.0 ** ((index + 1) / _OCTAVE) * weight, most))
        return points


Point = tuple[int, float, int]
"""A size, what it hits, and where it stands in its curve."""


class Offer(NamedTuple):
    """Hits for each byte, up to a size. ``divisible``: so much for each part of it, too; else for
    the whole step only.
    """

    slope: float
    size: int
    divisible: bool


class Wish:
    """What a region would hit at each size, between the least and the most that it may have.

    ``curve``: sizes and hits, both rising; before the first and between two points in proportion,
    behind the last as that.
    """

    __slots__ = ("_hits", "_sizes", "ceiling", "floor")

    def __init__(self, curve: Sequence[tuple[float, float]], floor: int, ceiling: int) -> None:
        self.floor, self.ceiling = floor, ceiling
        self._sizes = [0.0, *[size for size, _ in curve]]
        self._hits = [0.0, *[hits for _, hits in curve]]

    def hits(self, size: float) -> float:
        """What would be hit at a size."""
        at = bisect_left(self._sizes, size)
        if at == 0:
            return self._hits[0]
        if at == len(self._sizes):
            return self._hits[-1]
        low, high = self._sizes[at - 1], self._sizes[at]
        below, above = self._hits[at - 1], self._hits[at]
        return below + (above - below) * (size - low) / (high - low)

    def offers(self, left: int) -> list[Offer]:
        """The steps of the curve's upper hull, up to ``left`` more than the floor, steepest
        first.
        """
        top = min(self.ceiling, self.floor + left)
        first = bisect_right(self._sizes, self.floor)
        last = bisect_left(self._sizes, top)
        sizes = [self.floor, *map(int, self._sizes[first:last]), top]
        hits = [self.hits(self.floor), *self._hits[first:last], self.hits(top)]
        hull: list[Point] = []
        for at, (size, hit) in enumerate(zip(sizes, hits, strict=True)):
            if hull and size <= hull[-1][0]:
                continue
            point = size, hit, at
            while len(hull) > 1 and _bends_up(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        return [
            Offer(_slope(low, high), high[0], divisible=high[2] == low[2] + 1)
            for low, high in pairwise(hull)
        ]


def _bends_up(first: Point, second: Point, third: Point) -> bool:
    """Whether the second lies under the line from the first to the third; one on it stays."""
    return _slope(first, second) * (1 + _ROUNDING) < _slope(second, third)


def _slope(low: Point, high: Point) -> float:
    return (high[1] - low[1]) / (high[0] - low[0])


def floor_of(total: int, regions: int) -> int:
    """What each of so many regions keeps at least."""
    return total // (_FLOOR * regions)


def spread(
    total: int, present: Mapping[str, int], ceilings: Mapping[str, int | None]
) -> dict[str, int]:
    """A share for each region of ``ceilings`` (the most it may have, if there is a most): an even
    split at first; later a new region gets an even share, for which the others give way in
    proportion, and what a region leaves goes to all. In all at most ``total``.
    """
    if not ceilings:
        return {}
    floor = floor_of(total, len(ceilings))
    tops = {name: total if top is None else top for name, top in ceilings.items()}
    floors = {name: min(floor, top) for name, top in tops.items()}
    if not any(name in present for name in ceilings):
        return _evenly(total, {}, tops)
    even = total // len(ceilings)
    wished = {
        name: max(floors[name], min(present.get(name, even), top)) for name, top in tops.items()
    }
    above = sum(wished.values()) - sum(floors.values())
    free = total - sum(floors.values())
    if above > free:
        wished = {
            name: floors[name] + (size - floors[name]) * free // above
            for name, size in wished.items()
        }
    return _evenly(total - sum(wished.values()), wished, tops)


def _evenly(left: int, sizes: dict[str, int], tops: Mapping[str, int]) -> dict[str, int]:
    """``sizes``, and what is left on top, evenly, as far as ``tops`` allow."""
    found = dict(sizes)
    waiting = sorted(tops, key=lambda name: tops[name] - sizes.get(name, 0))
    for number, name in enumerate(waiting):
        had = found.get(name, 0)
        more = min(left // (len(waiting) - number), tops[name] - had)
        found[name] = had + more
        left -= more
    return {name: found[name] for name in tops}


def split(total: int, wishes: Mapping[str, Wish]) -> dict[str, int]:
    """The shares that hit the most: exact, to a byte, where the curves are concave. What nobody
    gains by is handed out evenly. Needs floors that fit into the total.
    """
    shares = {name: wish.floor for name, wish in wishes.items()}
    left = total - sum(shares.values())
    offers = sorted(
        [
            (-offer.slope, order, name, offer)
            for name, wish in wishes.items()
            for order, offer in enumerate(wish.offers(left))
            if offer.slope > 0
        ],
        key=lambda each: each[:3],
    )
    full: set[str] = set()
    for _, _, name, offer in offers:
        if name in full or offer.size <= shares[name]:
            continue
        more = offer.size - shares[name]
        if more > left:
            full.add(name)  # what it is offered next stands on top of this
            more = left if offer.divisible else 0
        shares[name] += more
        left -= more
    return _evenly(left, shares, {name: wish.ceiling for name, wish in wishes.items()})


def decide(
    total: int, present: Mapping[str, int], wishes: Mapping[str, Wish], requests: float
) -> dict[str, int]:
    """The next shares: a step from ``present`` towards the best split, if that is worth it for so
    many ``requests``; else ``present``.
    """
    best = split(total, wishes)
    gain = sum([wish.hits(best[name]) - wish.hits(present[name]) for name, wish in wishes.items()])
    if requests < _ENOUGH or gain <= _WORTH * requests:
        return dict(present)
    moved = sum([max(0, best[name] - size) for name, size in present.items()])
    most = max(1, total // _STEP)
    if moved <= most:
        return best
    step = {name: (best[name] - size) * most // moved for name, size in present.items()}
    return {name: size + step[name] for name, size in present.items()}
