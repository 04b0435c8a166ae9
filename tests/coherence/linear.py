"""Whether the history of one key is linearizable: two algorithms, which must agree.

* :func:`linearizable`: the search of Wing and Gong ("Testing and verifying concurrent objects",
  1993) with Lowe's memory of states seen ("Testing for linearizability", 2017). For registers with
  read, write, delete and compare-and-set, and for outcomes nobody knows. Exponential in the number
  of calls at once. What keeps it fast: a read that is right now is never a choice; an unknown write
  that nobody read is left out, one that was read ended by the end of its first read; what is
  finished is not part of the remembered state.
* :func:`zones`: Gibbons and Korach ("Testing shared memories", 1997), for registers whose writes
  all have different values. O(n log n).

A call precedes another if it ended before the other started; at the same instant they are at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from math import inf
from typing import Literal, NamedTuple

__all__ = ["Step", "linearizable", "zones"]

Action = Literal["read", "write", "delete", "cas", "refused"]


class Step(NamedTuple):
    """One call on a register. ``end`` is infinite where the outcome is unknown.

    ``value``: what was read (``None``: nothing there) or written. ``cas`` found ``expected`` and
    wrote ``value``; ``refused`` is one that found something else.
    """

    action: Action
    value: Hashable
    start: float
    end: float
    expected: Hashable = None


def linearizable(
    steps: Iterable[Step], initial: Hashable = None, limit: int = 2_000_000
) -> bool | None:
    """Whether one order explains all that was seen; ``None`` where the search passed ``limit``."""
    known, open_ = _prepared(steps)
    if known is None:
        return False
    return _Search(known, open_, limit).run(initial)


def _prepared(steps: Iterable[Step]) -> tuple[list[Step] | None, list[Step]]:
    """The calls with an end, by start, and those without; ``None`` where a read is too early."""
    steps = list(steps)
    first_seen: dict[Hashable, float] = {}
    for step in steps:
        seen = {"read": step.value, "cas": step.expected}.get(step.action)
        if seen is not None and step.end < inf:
            first_seen[seen] = min(step.end, first_seen.get(seen, inf))
    written: dict[Hashable, int] = {}
    for step in steps:
        if step.action in ("write", "cas"):
            written[step.value] = written.get(step.value, 0) + 1
    absence = any(step.action == "read" and step.value is None for step in steps)
    refused = any(step.action == "refused" for step in steps)
    wanted = {step.expected for step in steps if step.action == "cas"}
    known, open_ = [], []
    for step in steps:
        if step.end < inf:
            known.append(step)
        elif step.action in ("write", "cas"):
            end = first_seen.get(step.value, inf)
            if end < inf and written[step.value] == 1:
                if end < step.start:
                    return None, []
                known.append(step._replace(end=end))
            elif refused or end < inf or step.value in wanted:
                open_.append(step)
        elif step.action == "delete" and (absence or refused or None in wanted):
            open_.append(step)
    known.sort(key=lambda step: step.start)
    open_.sort(key=lambda step: step.start)
    return known, open_


class _Search:
    """Depth first through the states (what is done, what is in the register)."""

    def __init__(self, known: Sequence[Step], open_: Sequence[Step], limit: int) -> None:
        self._known = known
        self._open = open_
        self._limit = limit

    def run(self, initial: Hashable) -> bool | None:
        seen: set[tuple[int, int, int, Hashable]] = set()
        stack = [(0, 0, 0, initial)]  # the first that is not done, those done after it, open ones
        while stack:
            state = self._with_reads(*stack.pop())
            if state in seen:
                continue
            seen.add(state)
            if len(seen) > self._limit:
                return None
            if state[0] == len(self._known):
                return True
            stack += self._next(*state)
        return False

    def _possible(self, low: int, done: int) -> tuple[list[int], float]:
        """The calls that may come next, and the end by which the next one has come."""
        possible, soonest = [], inf
        for at in range(low, len(self._known)):
            step = self._known[at]
            if step.start > soonest:
                break
            if not done >> (at - low) & 1:
                possible.append(at)
                soonest = min(soonest, step.end)
        return possible, soonest

    def _with_reads(
        self, low: int, done: int, opened: int, value: Hashable
    ) -> tuple[int, int, int, Hashable]:
        """The state after all reads that are right in it."""
        while True:
            before = (low, done)
            for at in self._possible(low, done)[0]:
                step = self._known[at]
                reads = step.action == "read" and step.value == value
                if reads or (step.action == "refused" and step.expected != value):
                    done |= 1 << (at - low)
            while done & 1:
                done >>= 1
                low += 1
            if (low, done) == before:
                return low, done, opened, value

    def _next(
        self, low: int, done: int, opened: int, value: Hashable
    ) -> list[tuple[int, int, int, Hashable]]:
        possible, soonest = self._possible(low, done)
        states: list[tuple[int, int, int, Hashable]] = []
        for at, step in enumerate(self._open):
            if step.start > soonest:
                break
            if not opened >> at & 1 and _changes(step, value):
                states.append((low, done, opened | 1 << at, _after(step)))
        for at in reversed(possible):
            step = self._known[at]
            if _changes(step, value):
                mask = done | 1 << (at - low)
                states.append((low, mask, opened, _after(step)))
        return states


def _changes(step: Step, value: Hashable) -> bool:
    return step.action in ("write", "delete") or (step.action == "cas" and step.expected == value)


def _after(step: Step) -> Hashable:
    return None if step.action == "delete" else step.value


def zones(steps: Iterable[Step], initial: Hashable = None) -> bool:
    """The same for reads and writes whose values are all different.

    The zone of a value is the time from the first end to the last start of the calls that have it.
    If that is forward, the value was there all the time; else it was there at some instant of it.
    """
    steps = list(steps)
    written = _written_once(steps, initial)
    first_end: dict[Hashable, float] = dict.fromkeys(written, inf)
    last_start: dict[Hashable, float] = dict.fromkeys(written, -inf)
    first_end[initial] = -inf
    for step in steps:
        if step.value not in written:
            if step.action == "read":
                return False
            continue
        if step.end < written[step.value]:
            return False
        first_end[step.value] = min(step.end, first_end[step.value])
        last_start[step.value] = max(step.start, last_start[step.value])
    forward = sorted((first_end[v], last_start[v]) for v in written if first_end[v] < last_start[v])
    backward = [(last_start[v], first_end[v]) for v in written if first_end[v] >= last_start[v]]
    apart = all(end <= start for (_, end), (start, _) in pairwise(forward))
    return apart and not any(_within(zone, forward) for zone in backward)


def _written_once(steps: Sequence[Step], initial: Hashable) -> dict[Hashable, float]:
    """When the write of each value started; unknown ones that nobody read are left out."""
    written: dict[Hashable, float] = {initial: -inf}
    read = {step.value for step in steps if step.action == "read"}
    for step in steps:
        if step.action not in ("read", "write"):
            raise ValueError(f"zones can't judge {step.action!r}: use linearizable()")
        if step.action == "write" and (step.end < inf or step.value in read):
            if step.value in written:
                raise ValueError(f"{step.value!r} is written twice: use linearizable()")
            written[step.value] = step.start
    return written


def _within(zone: tuple[float, float], forward: Sequence[tuple[float, float]]) -> bool:
    """Whether a zone lies inside of one of the forward ones, which do not overlap."""
    at = bisect_left(forward, zone[0], key=lambda other: other[0]) - 1
    return at >= 0 and zone[1] < forward[at][1]
