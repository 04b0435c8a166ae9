"""A window for what is new, a main part for what proved its worth, and a rule between the two.

The window is a recency list. What falls out of it contends with the main part's next victim, and
one of the two leaves; the rule says which, by how often both were used lately. The main part is a
segmented LRU: used again there, an entry is protected, in four fifths of the part. With a window
of the whole room this is LRU; with a small one and a strict rule it is W-TinyLFU; with a small one
and "used twice" it does what S3-FIFO does, by a longer memory. So it can change from one to the
other by a number, and no entry moves.

Resident entries carry their own count, 15 at most; keys that left have theirs in a
:class:`History`. All are halved once in ten times as many uses as entries fit, lazily: an entry
knows the age at which it was last counted.

Sources: G. Einziger, R. Friedman and B. Manes, "TinyLFU: A Highly Efficient Cache Admission
Policy", ACM Transactions on Storage 2017 (the window, the halving); R. Karedla, J. Love and B.
Wherry, "Caching strategies to improve disk system performance", Computer 1994 (the segments).
"""

from __future__ import annotations

from typing import Final

from ..entries import Entry
from .base import Policy, Segment
from .history import History

__all__ = ["BALANCED", "HASH", "OPEN", "STRICT", "TWICE", "Segmented", "admits"]

STRICT: Final = 0
"""In comes what was used more often than the victim."""
BALANCED: Final = 1
"""In comes what was used twice, and often, or no less than the victim."""
TWICE: Final = 2
"""In comes what was used twice."""
OPEN: Final = 3
"""In comes everything."""

HASH: Final = (1 << 60) - 1
_OFTEN: Final = 5
_PROTECTED: Final = 0.8
_UNLIMITED: Final = 1 << 40
_MOST: Final = 15
_BITS: Final = 4
_FORGOTTEN: Final = 4
_PERIOD: Final = 10
_CELLS: Final = 4
_CATCH_UP: Final = 2


def admits(rule: int, candidate: int, victim: int) -> bool:
    """Whether the window's oldest entry replaces the main part's victim, by their counts."""
    if rule == STRICT:
        return candidate > victim
    if rule == BALANCED:
        return candidate > 1 and (candidate >= victim or candidate >= _OFTEN)
    return rule == OPEN or candidate > 1


class Segmented(Policy):
    """Window and main part; what derives from it chooses the window's share and the rule."""

    def __init__(self) -> None:
        self._window = Segment()
        self._probation = Segment()
        self._protected = Segment()
        self._capacity = 0
        self._share = 0.01
        self._rule = STRICT
        self._window_size = self._protected_size = _UNLIMITED
        self._history: History | None = None
        self._age = self._uses = 0
        self._period = _UNLIMITED

    def resize(self, capacity: int) -> None:
        self._capacity = capacity
        self._period = _PERIOD * capacity or _UNLIMITED
        cells = _CELLS * capacity
        known = self._history
        if known is not None and not cells <= known.cells <= 4 * cells:
            self._history = None
        self.steer(self._share, self._rule)

    def steer(self, share: float, rule: int) -> None:
        """Give the window a share of the room, and the contest a rule. Moves nothing now."""
        self._share, self._rule = share, rule
        capacity = self._capacity
        if not capacity:
            self._window_size = self._protected_size = _UNLIMITED
            return
        self._window_size = min(capacity, max(1, round(capacity * share)))
        self._protected_size = int((capacity - self._window_size) * _PROTECTED)

    def insert(self, entry: Entry) -> None:
        self._grow_older()
        entry.uses = self._age << _BITS | min(_MOST, self.promise(entry.key) + 1)
        self._window.append(entry)
        self._rebalance()

    def touch(self, entry: Entry) -> None:
        self._grow_older()
        count = self.heat(entry)
        entry.uses = self._age << _BITS | (count + 1 if count < _MOST else count)
        home: Segment = entry.home
        if home is self._probation:
            home.unlink(entry)
            self._protected.append(entry)
            if self._protected.count > self._protected_size:
                self._demote()
        else:
            home.renew(entry)

    def remove(self, entry: Entry) -> None:
        home: Segment = entry.home
        home.unlink(entry)

    def evict(self, entry: Entry) -> None:
        home: Segment = entry.home
        home.unlink(entry)
        history = self._history
        if history is None:
            history = self._history = History(_CELLS * self._capacity)
            history.age = self._age
        history.put(hash(entry.key) & HASH, self.heat(entry))
        if home is not self._window and self._window.count >= self._window_size:
            winner = self._window.first()
            assert winner is not None
            self._window.unlink(winner)
            self._probation.append(winner)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        main = self._probation.first(spared) or self._protected.first(spared)
        if main is None:
            return self._window.first(spared)
        if self._window.count < self._window_size:
            return main
        candidate = self._window.first(spared)
        if candidate is None or admits(self._rule, self.heat(candidate), self.heat(main)):
            return main
        return candidate

    def ordered(self) -> list[Entry]:
        return [
            *self._probation.entries(),
            *self._window.entries(),
            *self._protected.entries(),
        ]

    def heat(self, entry: Entry) -> int:
        uses = entry.uses
        missed = self._age - (uses >> _BITS)
        return (uses & _MOST) >> missed if missed < _FORGOTTEN else 0

    def promise(self, key: str) -> int:
        history = self._history
        return 0 if history is None else history.get(hash(key) & HASH)

    def _grow_older(self) -> None:
        """Count a use; halve all counts when it is time."""
        self._uses += 1
        if self._uses >= self._period:
            self._uses = 0
            self._age += 1
            if self._history is not None:
                self._history.age = self._age

    def _rebalance(self) -> None:
        """Move a few entries towards the sizes the segments should have."""
        for _ in range(_CATCH_UP):
            if self._window.count > self._window_size:
                entry = self._window.first()
                assert entry is not None
                self._window.unlink(entry)
                self._probation.append(entry)
            if self._protected.count > self._protected_size:
                self._demote()

    def _demote(self) -> None:
        entry = self._protected.first()
        if entry is not None:
            self._protected.unlink(entry)
            self._probation.append(entry)
