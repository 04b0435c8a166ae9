"""LRU: evict what was used longest ago.

Bad at: scans and loops longer than the cache, which push out everything before it is used again.
"""

from __future__ import annotations

from ..entries import Entry
from .base import LinkedList, Policy

__all__ = ["Lru"]


class Lru(Policy):
    """Least recently used."""

    name = "lru"

    def __init__(self) -> None:
        self._recency = LinkedList()

    def insert(self, entry: Entry) -> None:
        self._recency.append(entry)

    def touch(self, entry: Entry) -> None:
        self._recency.unlink(entry)
        self._recency.append(entry)

    def remove(self, entry: Entry) -> None:
        self._recency.unlink(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        return self._recency.first(spared)

    def ordered(self) -> list[Entry]:
        return self._recency.entries()
