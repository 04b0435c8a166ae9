"""Expiry in O(1) an entry: a hierarchical timing wheel.

Entries are filed by the second of their deadline, in five levels of 64 slots: a slot of level 0
is a second, of level 1 64 seconds, and so on up to 34 years; anything later waits in the last
slot and is filed again. When time enters a wide slot its entries are filed one level down, so an
entry moves at most five times in its life, and nothing ever looks at all entries.

Source: G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987. Rejected: a
heap (O(log n) an entry, and a removed entry stays in it), sampling as Redis does (no bound on how
long a dead entry keeps its memory).

A slot is a list; an entry knows its slot and its place in it, and leaves by swapping with the
last. Only the memory of expired entries depends on the wheel: a read compares the exact deadline.
The caller holds the table's lock.
"""

from __future__ import annotations

import math
from typing import Final

from .types import FOREVER, Entry

__all__ = ["TimerWheel"]

_BITS: Final = 6
_SLOTS: Final = 1 << _BITS
_MASK: Final = _SLOTS - 1
_LEVELS: Final = 5
_DUE: Final = _LEVELS * _SLOTS
_FARTHEST: Final = (1 << (_BITS * _LEVELS)) - (1 << (_BITS * (_LEVELS - 1)))


class TimerWheel:
    """Entries by the moment their memory is due."""

    def __init__(self, now: float) -> None:
        self._second = math.floor(now)
        self._slots: list[list[Entry]] = [[] for _ in range(_LEVELS * _SLOTS + 1)]
        self._filed = 0

    def __len__(self) -> int:
        return self._filed

    def add(self, entry: Entry, due: float) -> None:
        """File ``entry``, which is in no slot, to be given back once ``due`` has passed."""
        if due == FOREVER:
            return
        self._filed += 1
        self._file(entry, due)

    def remove(self, entry: Entry) -> None:
        """Take ``entry`` out, if it is in."""
        if entry.slot < 0:
            return
        slot = self._slots[entry.slot]
        last = slot.pop()
        if last is not entry:
            slot[entry.place] = last
            last.place = entry.place
        entry.slot = -1
        self._filed -= 1

    def advance(self, now: float, grace: float, limit: int) -> list[Entry]:
        """Take out at most ``limit`` entries whose deadline plus ``grace`` has passed.

        Cost: the entries returned and moved, and at most 64 slots a level whatever the pause.
        """
        target = math.floor(now)
        if target > self._second:
            self._turn(target, grace)
        due = self._slots[_DUE]
        taken = due[-limit:] if len(due) > limit else due[:]
        del due[len(due) - len(taken) :]
        for entry in taken:
            entry.slot = -1
        self._filed -= len(taken)
        return taken

    def _turn(self, target: int, grace: float) -> None:
        before, self._second = self._second, target
        moved: list[Entry] = []
        for level in range(_LEVELS):
            shift = _BITS * level
            first, last = before >> shift, target >> shift
            if first == last and level:
                break
            for tick in range(max(first, last - _MASK), last + 1):
                index = level * _SLOTS + (tick & _MASK)
                if self._slots[index]:
                    moved += self._slots[index]
                    self._slots[index] = []
        for entry in moved:
            self._file(entry, entry.deadline + grace)

    def _file(self, entry: Entry, due: float) -> None:
        tick = min(math.floor(due) + 1, self._second + _FARTHEST)
        ahead = tick - self._second
        if ahead <= 0:
            index = _DUE
        else:
            level = 0
            while (tick >> (_BITS * level)) - (self._second >> (_BITS * level)) >= _SLOTS:
                level += 1
            index = level * _SLOTS + ((tick >> (_BITS * level)) & _MASK)
        slot = self._slots[index]
        entry.slot, entry.place = index, len(slot)
        slot.append(entry)
