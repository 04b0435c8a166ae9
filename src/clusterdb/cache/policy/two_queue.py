"""2Q: a short queue for what is new, and a recency list for what came back.

A new entry waits in a FIFO queue, a quarter of the room; hits there change nothing, as they often
belong to one use. When it leaves, its key is remembered; a key that comes back while it is, goes
to the main list, which is an LRU. Source: T. Johnson and D. Shasha, "2Q: A Low Overhead High
Performance Buffer Management Replacement Algorithm", VLDB 1994 (the full version: in 25%, out 50%).

Bad at: anything whose second use comes later than the remembered keys reach, and sizes that its
two constants don't suit.
"""

from __future__ import annotations

from ..entries import Entry
from .base import Policy, Segment
from .ghosts import Ghosts

__all__ = ["TwoQueue"]


class TwoQueue(Policy):
    """Two queues."""

    name = "2q"

    def __init__(self) -> None:
        self._new = Segment()
        self._main = Segment()
        self._ghosts = Ghosts()
        self._new_size = self._ghost_size = 1
        self._returning = ""

    def resize(self, capacity: int) -> None:
        self._new_size = max(1, capacity // 4)
        self._ghost_size = max(1, capacity // 2)
        self._ghosts.trim(self._ghost_size)

    def expect(self, key: str) -> None:
        self._returning = key if self._ghosts.discard(key) else ""

    def insert(self, entry: Entry) -> None:
        (self._main if entry.key == self._returning else self._new).append(entry)
        self._returning = ""

    def touch(self, entry: Entry) -> None:
        if entry.home is self._main:
            self._main.renew(entry)

    def remove(self, entry: Entry) -> None:
        home: Segment = entry.home
        home.unlink(entry)

    def evict(self, entry: Entry) -> None:
        if entry.home is self._new:
            self._ghosts.add(entry.key, self._ghost_size)
        self.remove(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        new, main = self._new.first(spared), self._main.first(spared)
        if new is None or main is None:
            return main if new is None else new
        return new if self._new.count > self._new_size else main

    def ordered(self) -> list[Entry]:
        return self._new.entries() + self._main.entries()
