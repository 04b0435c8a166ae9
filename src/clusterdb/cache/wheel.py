"""Expiry in O(1) an entry: a hierarchical timing wheel.

Entries are filed by the second of their deadline, in five levels of 64 slots: a slot of level 0
is a second, of level 1 64 seconds, and so on up to 34 years; anything later waits in the last
slot and is filed again. When time enters a wide slot its entries are filed one level down, so an
entry moves at most five times in its life, and nothing ever looks at all entries.

Source: G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987. Rejected: a
heap (O(log n) an entry, and a removed entry stays in it), sampling as Redis does (no bound on how
long a dead entry keeps its memory).

A slot is a list; an entry knows its list and its place in it, and leaves by swapping with the last.
When its time comes a list is only put aside: its entries are given back or filed anew a bounded
number at a time. Only the memory of expired entries depends on the wheel: a read compares the exact
deadline. The caller holds the table's guard.
"""

from __future__ import annotations

import math
from typing import Final

from .entries import Entry
from .types import FOREVER

__all__ = ["TimerWheel"]

_BITS: Final = 6
_SLOTS: Final = 1 << _BITS
_MASK: Final = _SLOTS - 1
_LEVELS: Final = 5
_FARTHEST: Final = (1 << (_BITS * _LEVELS)) - (1 << (_BITS * (_LEVELS - 1)))


class TimerWheel:
    """Entries by the moment their memory is due."""

    def __init__(self, now: float) -> None:
        self._second = math.floor(now)
        self._slots: list[list[Entry]] = [[] for _ in range(_LEVELS * _SLOTS)]
        self._aside: list[list[Entry]] = []
        self._filed = 0

    def __len__(self) -> int:
        return self._filed

    @property
    def pending(self) -> bool:
        """Whether entries wait to be given back or filed anew."""
        return len(self._aside) > 0

    def add(self, entry: Entry, due: float) -> None:
        """File ``entry``, which is in no slot, to be given back once ``due`` has passed."""
        if due == FOREVER:
            return
        self._filed += 1
        self._file(entry, due)

    def remove(self, entry: Entry) -> None:
        """Take ``entry`` out, if it is in."""
        slot = entry.slot
        if slot is None:
            return
        last = slot.pop()
        if last is not entry:
            slot[entry.place] = last
            last.place = entry.place
        entry.slot = None
        self._filed -= 1

    def advance(self, now: float, grace: float, limit: int) -> list[Entry]:
        """Take out entries whose deadline plus ``grace`` has passed; looks at ``limit`` at most.

        Cost: the entries looked at, and at most 64 slots a level whatever the pause.
        """
        target = math.floor(now)
        if target > self._second:
            self._turn(target)
        taken: list[Entry] = []
        while self._aside and limit > 0:
            slot = self._aside[-1]
            if not slot:
                self._aside.pop()
                continue
            limit -= 1
            entry = slot.pop()
            entry.slot = None
            due = entry.deadline + grace
            if math.floor(due) < self._second:
                taken.append(entry)
            else:
                self._file(entry, due)
        self._filed -= len(taken)
        return taken

    def _turn(self, target: int) -> None:
        """Put the slots aside whose time has come."""
        before, self._second = self._second, target
        for level in range(_LEVELS):
            shift = _BITS * level
            first, last = before >> shift, target >> shift
            if first == last and level:
                break
            for tick in range(max(first, last - _MASK), last + 1):
                index = level * _SLOTS + (tick & _MASK)
                if self._slots[index]:
                    self._aside.append(self._slots[index])
                    self._slots[index] = []

    def _file(self, entry: Entry, due: float) -> None:
        tick = min(math.floor(due) + 1, self._second + _FARTHEST)
        if tick <= self._second:
            slot: list[Entry] = []
            self._aside.append(slot)
        else:
            level = 0
            while (tick >> (_BITS * level)) - (self._second >> (_BITS * level)) >= _SLOTS:
                level += 1
            slot = self._slots[level * _SLOTS + ((tick >> (_BITS * level)) & _MASK)]
        entry.slot, entry.place = slot, len(slot)
        slot.append(entry)
