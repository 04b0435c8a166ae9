"""How much to move between servers, and which parts, so that as little moves as can be. Pure.

Each server's load is its number of keys. Servers are out of balance when one is further from the
mean than a share of it; then loads are brought within *half* of that share, so that the next few
keys don't tip the scale again. Those above give up what is over, those below take what they lack,
and all others stay as they are: that is the smallest number of keys that has to move.

Parts (slots) move as a whole. Large ones are taken first, and never one that is more than what its
server has left to give, so that the sum stays at or below the minimum. A part that overfills its
new server moves only where the old one is left with at least as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, floor
from typing import NamedTuple

__all__ = ["PartMove", "balanced_loads", "even_weights", "least_moves", "part_moves"]


class PartMove(NamedTuple):
    """A part that goes from one server to another, with so many keys."""

    part: int
    source: str
    target: str
    keys: int


def balanced_loads(loads: Mapping[str, int], threshold: float) -> dict[str, int]:
    """What each server should hold; as it is where none is further than ``threshold`` off."""
    total = sum(loads.values())
    mean = total / len(loads) if loads else 0.0
    if not total or all(abs(load - mean) <= threshold * mean for load in loads.values()):
        return dict(loads)
    wanted = {
        name: min(max(load, ceil(mean * (1 - threshold / 2))), floor(mean * (1 + threshold / 2)))
        for name, load in loads.items()
    }
    return _summing_up(wanted, loads, total)


def _summing_up(wanted: dict[str, int], loads: Mapping[str, int], total: int) -> dict[str, int]:
    """Let the loads be ``total`` together: who has to change gives or takes the rest, evenly, and
    who need not change only what is left then.
    """
    surplus = sum(wanted.values()) - total
    step = 1 if surplus > 0 else -1
    mean = total / len(wanted)
    while surplus:
        # Too much is wanted: lower it where it is highest; too little: raise it where it is lowest.
        name = max(wanted, key=lambda each: (step * (wanted[each] - mean), loads[each]))
        others = sorted(wanted.values(), reverse=step > 0)
        gap = abs(wanted[name] - others[1]) if len(others) > 1 else abs(surplus)
        change = min(abs(surplus), max(1, gap))
        wanted[name] -= step * change
        surplus -= step * change
    return wanted


def even_weights(
    weights: Mapping[str, float], loads: Mapping[str, int], threshold: float
) -> dict[str, float]:
    """Weights under which servers of a ring would hold the same, largest 1; the present ones where
    no load is further than ``threshold`` off, or one is 0, which tells nothing of its share.
    """
    if balanced_loads(loads, threshold) == loads or not all(loads.values()):
        return dict(weights)
    mean = sum(loads.values()) / len(loads)
    raw = {name: weight * mean / loads[name] for name, weight in weights.items()}
    largest = max(raw.values())
    return {name: max(0.01, round(weight / largest, 2)) for name, weight in raw.items()}


def least_moves(loads: Mapping[str, int], wanted: Mapping[str, int]) -> int:
    """How many keys have to move at least, for loads to be as wanted."""
    return sum([max(0, load - wanted[name]) for name, load in loads.items()])


def part_moves(
    parts: Mapping[str, Mapping[int, int]], threshold: float
) -> tuple[list[PartMove], int]:
    """Which parts move where, and the least number of keys that have to. ``parts`` are those of
    each server, with their keys; parts without keys weigh nothing and stay.
    """
    loads = {name: sum(mine.values()) for name, mine in parts.items()}
    wanted, now = balanced_loads(loads, threshold), dict(loads)
    moves: list[PartMove] = []
    for source, mine in parts.items():
        left = loads[source] - wanted[source]  # who takes does not give as well
        others = [name for name in now if name != source]
        for part, keys in sorted(mine.items(), key=lambda each: (-each[1], each[0])):
            target = min(others, key=lambda name: now[name] - wanted[name], default=source)
            room = max(wanted[target], now[source] - keys) - now[target]
            if 0 < keys <= min(left, room):
                moves.append(PartMove(part, source, target, keys))
                left -= keys
                now[source] -= keys
                now[target] += keys
    return moves, least_moves(loads, wanted)
