"""Recording LRU: the order of a near tier, which also remembers what was used.

The backend behind the near tier sees only what the near tier misses. So that its own eviction
knows what is in use, it takes the recorded keys from time to time.
"""

from __future__ import annotations

from ..entries import Entry
from .lru import Lru

__all__ = ["RecordingLru"]


class RecordingLru(Lru):
    """LRU that remembers the keys of the entries touched since :meth:`take`."""

    def __init__(self) -> None:
        super().__init__()
        self._used: dict[str, int] = {}

    def touch(self, entry: Entry) -> None:
        super().touch(entry)
        self._used[entry.key] = self._used.pop(entry.key, 0) + 1

    def take(self) -> dict[str, int]:
        """The keys touched since the last call, in the order of their last use, and how often."""
        used, self._used = self._used, {}
        return used
