"""FIFO: evict what came first.

Bad at: everything that is read more than once; a hot entry leaves with its age. Good at: values
whose worth is their youth, such as sessions. An overwrite keeps its place.
"""

from __future__ import annotations

from ..entries import Entry
from .base import LinkedList, Policy

__all__ = ["Fifo"]


class Fifo(Policy):
    """First in, first out."""

    name = "fifo"

    def __init__(self) -> None:
        self._queue = LinkedList()

    def insert(self, entry: Entry) -> None:
        self._queue.append(entry)

    def touch(self, entry: Entry) -> None:
        pass

    def remove(self, entry: Entry) -> None:
        self._queue.unlink(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        return self._queue.first(spared)

    def ordered(self) -> list[Entry]:
        return self._queue.entries()
