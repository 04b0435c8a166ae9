"""LIRS: keep what comes back soonest, judged by the distance between a key's last two uses.

Entries of low inter-reference recency (LIR) have nearly all the room and are safe; the others, a
hundredth of the room, wait in a queue for their eviction. A stack in the order of last use holds
the LIR entries and whatever was used since the oldest of them, gone keys too: one of those that is
used again has a shorter distance than the LIR entry at the bottom, and takes its place. Source: S.
Jiang and X. Zhang, "LIRS: An Efficient Low Inter-reference Recency Set Replacement Policy",
SIGMETRICS 2002. Keys of gone entries are bounded to twice the capacity, which the paper leaves
open.

Bad at: recency (a new entry has a hundredth of the room to prove itself in), and small caches.
Some 250 bytes more an entry than LRU.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ..entries import Entry
from .base import Policy, Segment
from .ghosts import Ghosts

__all__ = ["Lirs"]

_WAITING: Final = 0.01
_GHOSTS: Final = 2


class Lirs(Policy):
    """Low inter-reference recency set. ``uses`` of an entry is 1 while it is LIR."""

    name = "lirs"

    def __init__(self) -> None:
        self._stack: OrderedDict[str, Entry | None] = OrderedDict()
        self._queue = Segment()
        self._ghosts = Ghosts()
        self._lir = 0
        self._lir_size = 1
        self._ghost_size = 0

    def resize(self, capacity: int) -> None:
        self._lir_size = capacity - max(1, int(capacity * _WAITING)) if capacity else 1 << 40
        self._ghost_size = _GHOSTS * capacity
        self._trim()
        while self._lir > max(0, self._lir_size):
            self._demote()

    def insert(self, entry: Entry) -> None:
        key = entry.key
        returning = self._ghosts.discard(key)
        entry.uses = 1 if returning or self._lir < self._lir_size else 0
        self._stack[key] = entry
        self._stack.move_to_end(key)
        if entry.uses:
            self._lir += 1
            if self._lir > self._lir_size:
                self._demote()
        else:
            self._queue.append(entry)
        self._prune()

    def touch(self, entry: Entry) -> None:
        key = entry.key
        in_stack = key in self._stack
        self._stack[key] = entry
        self._stack.move_to_end(key)
        if not entry.uses and in_stack:
            self._queue.unlink(entry)
            entry.uses = 1
            self._lir += 1
            if self._lir > self._lir_size:
                self._demote()
        elif not entry.uses:
            self._queue.renew(entry)
        self._prune()

    def remove(self, entry: Entry) -> None:
        self._stack.pop(entry.key, None)
        self._leave(entry)

    def evict(self, entry: Entry) -> None:
        if not entry.uses and entry.key in self._stack:
            self._stack[entry.key] = None
            self._ghosts.add(entry.key, self._ghost_size + 1)
            self._trim()
        else:
            self._stack.pop(entry.key, None)
        self._leave(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        entry = self._queue.first(spared)
        if entry is not None:
            return entry
        for resident in self._stack.values():
            if resident is not None and resident is not spared and resident.uses:
                return resident
        return None

    def ordered(self) -> list[Entry]:
        lir = [entry for entry in self._stack.values() if entry is not None and entry.uses]
        return self._queue.entries() + lir

    def _leave(self, entry: Entry) -> None:
        if entry.uses:
            self._lir -= 1
            self._prune()
        else:
            self._queue.unlink(entry)

    def _demote(self) -> None:
        """The LIR entry used longest ago waits in the queue from now on."""
        self._prune()
        _, entry = self._stack.popitem(last=False)
        assert entry is not None
        entry.uses = 0
        self._lir -= 1
        self._queue.append(entry)
        self._prune()

    def _prune(self) -> None:
        """Take off the bottom of the stack what is not LIR."""
        while self._stack:
            key = next(iter(self._stack))
            entry = self._stack[key]
            if entry is not None and entry.uses:
                return
            del self._stack[key]
            if entry is None:
                self._ghosts.discard(key)

    def _trim(self) -> None:
        while len(self._ghosts) > self._ghost_size:
            self._stack.pop(self._ghosts.pop(), None)
