"""From one policy to another without a pause: entries go over a few at a time, coldest first.

The old policy stays in charge of what it still has, and of what comes in, so the order is its own
until the end: the new policy is given the entries in the order in which the old one would have
evicted them, as if they had been put in like that. What leaves meanwhile is the new one's victim,
as it has the coldest ones. Each write hands over several entries, so this ends. The table hands
over the first thousand at once, so that a small cache obeys its new policy from the next call on.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..entries import Entry
from .base import Policy

__all__ = ["Handover"]


class Handover(Policy):
    """An old and a new policy, until the old one holds nothing. ``entries`` are what it holds."""

    def __init__(self, old: Policy, new: Policy, entries: Iterable[Entry]) -> None:
        self.name = new.name
        self.old = old
        self.new = new
        self.waiting = set(entries)

    def move(self, limit: int) -> bool:
        """Hand over at most ``limit`` entries; whether there is none left."""
        for _ in range(limit):
            entry = self.old.victim()
            if entry is None:
                break
            self.old.remove(entry)
            self.new.insert(entry)
            self.waiting.discard(entry)
        return not self.waiting

    def _holder(self, entry: Entry) -> Policy:
        return self.old if entry in self.waiting else self.new

    def resize(self, capacity: int) -> None:
        self.old.resize(capacity)
        self.new.resize(capacity)

    def expect(self, key: str) -> None:
        self.old.expect(key)

    def insert(self, entry: Entry) -> None:
        self.old.insert(entry)
        self.waiting.add(entry)

    def touch(self, entry: Entry) -> None:
        self._holder(entry).touch(entry)

    def remove(self, entry: Entry) -> None:
        self._holder(entry).remove(entry)
        self.waiting.discard(entry)

    def evict(self, entry: Entry) -> None:
        self._holder(entry).evict(entry)
        self.waiting.discard(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        return self.new.victim(spared) or self.old.victim(spared)

    def ordered(self) -> list[Entry]:
        return [*self.new.ordered(), *self.old.ordered()]

    def heat(self, entry: Entry) -> int:
        return self._holder(entry).heat(entry)

    def promise(self, key: str) -> int:
        return self.old.promise(key)
