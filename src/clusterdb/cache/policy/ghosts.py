"""Ghosts: the keys of entries that left, remembered for a while, oldest first.

Some policies learn from a key that comes back soon after it was evicted. Only the key is kept:
some 150 bytes, and no value.
"""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["Ghosts"]


class Ghosts:
    """A queue of keys with O(1) look-up."""

    __slots__ = ("_keys",)

    def __init__(self) -> None:
        self._keys: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str, limit: int) -> None:
        """Remember ``key`` as the newest, and forget the oldest of more than ``limit``."""
        self._keys[key] = None
        self.trim(limit)

    def trim(self, limit: int) -> None:
        """Forget the oldest of more than ``limit``."""
        while len(self._keys) > limit:
            self._keys.popitem(last=False)

    def discard(self, key: str) -> bool:
        """Forget ``key``; whether it was known."""
        if key in self._keys:
            del self._keys[key]
            return True
        return False

    def pop(self) -> str:
        """Forget the oldest key, and name it."""
        return self._keys.popitem(last=False)[0]
