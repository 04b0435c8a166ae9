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
        self._used: list[str] = []

    def touch(self, entry: Entry) -> None:
        super().touch(entry)
        self._used.append(entry.key)

    def take(self) -> list[str]:
        """The keys touched since the last call, in order; a key may be there more than once."""
        used, self._used = self._used, []
        return used
