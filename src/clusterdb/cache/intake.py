"""What may come into a table, before anything is changed for it: refusals, counted by reason.

A write fails where the entry is too large, or the process is at its memory budget. Otherwise a new
entry may be kept out: as memory is short, as new keys come too fast, or by the admission filter.
"""

from __future__ import annotations

from .entries import Entry
from .errors import EntryTooLarge, OutOfMemory
from .policy.admission import Gate
from .stats import Counters
from .units import ByteSize

__all__ = ["Intake"]


class Intake:
    """The rules of one table. Everything runs under the table's guard."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._gate: Gate | None = None
        self._max_entry: int | None = None
        self._largest: int | None = None
        self._budget: tuple[int, int] | None = None
        self._short = False

    def configure(self, max_entry: int | None, gate: Gate | None) -> None:
        """Set the largest weight of an entry, beside that of all, and the filter."""
        self._max_entry, self._gate = max_entry, gate

    def limit(self, max_weight: int | None) -> None:
        """Set the largest weight of all entries, which no single one can exceed either."""
        own = self._max_entry
        self._largest = max_weight if own is None else min(own, max_weight or own)

    @property
    def weighs(self) -> bool:
        """Whether weights matter."""
        return self._largest is not None

    def resize(self, capacity: int) -> None:
        """How many entries fit, about; 0 is no limit."""
        if self._gate is not None:
            self._gate.resize(capacity)

    def press(self, budget: tuple[int, int] | None, short: bool) -> None:
        """Memory is ``short``: keep out what is new. With a ``budget`` (used, limit): fail."""
        self._budget, self._short = budget, short

    def check(self, key: str, weight: int) -> None:
        """Raise :class:`EntryTooLarge` or :class:`OutOfMemory` for a write that can't be done."""
        if self._budget is not None:
            self._counters.rejections += 1
            raise OutOfMemory(*self._budget)
        limit = self._largest
        if limit is not None and weight > limit:
            self._counters.rejections += 1
            raise EntryTooLarge(key, weight, ByteSize(limit))

    def keeps_out(self, key: str, victim: Entry | None, now: float) -> bool:
        """Whether a new entry stays out, counted; ``victim`` would leave for it, ``None``: there is
        room.
        """
        counters, gate = self._counters, self._gate
        if self._short:
            counters.refused_by_memory += 1
            return True
        if gate is None:
            return False
        if gate.too_fast(now):
            counters.refused_by_rate += 1
            return True
        if gate.filters_out(key, None if victim is None else victim.key):
            counters.refused_by_filter += 1
            return True
        return False

    def used(self, batch: list[Entry]) -> None:
        """These entries were read."""
        gate = self._gate
        if gate is not None and gate.counts_uses:
            for entry in batch:
                gate.used(entry.key)
