"""SIEVE: one queue, and a hand that spares what was used since it last came by.

Entries stay where they were put in. The hand walks from the oldest to the newest entry, takes the
mark off those that were used, and evicts the first that has none; so a hit only sets a mark.
Source: Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson and K. V. Rashmi, "SIEVE is Simpler than LRU",
NSDI 2024.

Bad at: scans (each scanned entry stays until the hand has gone round), block and file traffic with
loops, and anything where what was used last is used next.
"""

from __future__ import annotations

from ..entries import Entry
from .base import Policy, Segment

__all__ = ["Sieve"]


class Sieve(Policy):
    """A FIFO queue sieved by a moving hand."""

    name = "sieve"

    def __init__(self) -> None:
        self._queue = Segment()
        self._hand: Entry | None = None

    def insert(self, entry: Entry) -> None:
        entry.uses = 0
        self._queue.append(entry)

    def touch(self, entry: Entry) -> None:
        entry.uses = 1

    def remove(self, entry: Entry) -> None:
        if self._hand is entry:
            self._hand = self._queue.after(entry)
        self._queue.unlink(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        if self._queue.first(spared) is None:
            return None
        at = self._hand
        while True:
            if at is None:
                at = self._queue.first()
                assert at is not None
            if at is not spared and at.uses == 0:
                self._hand = at
                return at
            if at is not spared:
                at.uses = 0
            at = self._queue.after(at)

    def ordered(self) -> list[Entry]:
        entries = self._queue.entries()
        hand = self._hand
        if hand is not None:
            at = entries.index(hand)
            entries = entries[at:] + entries[:at]
        unused = [entry for entry in entries if not entry.uses]
        return unused + [entry for entry in entries if entry.uses]
