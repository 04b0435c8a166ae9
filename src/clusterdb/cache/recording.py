"""The file that a recording of a live cache is: a head, the share of keys, hashes of keys.

Keys are hashed, with a salt that is kept nowhere: Python's own hash where a process records itself,
that of a :class:`Log` where one records others. They can't be got back from the file, and two
recordings can't be compared key by key.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from typing import Final

__all__ = ["MAGIC", "SHARE", "Log"]

MAGIC: Final = b"clusterdb-tr"
SHARE: Final = struct.Struct("<d")
"""Follows the magic; then little-endian 64-bit hashes, one a request."""

_HASH: Final = 8
_WHOLE: Final = 1 << 24


class Log:
    """The hashes of keys that were asked for, of a share of all keys."""

    def __init__(self, share: float) -> None:
        self._below = max(1, int(share * _WHOLE))
        self._salt = os.urandom(16)
        self._noted = bytearray()

    def note(self, key: bytes) -> None:
        """A key was asked for."""
        hashed = blake2b(key, digest_size=_HASH, key=self._salt).digest()
        if int.from_bytes(hashed[:3], "little") < self._below:
            self._noted += hashed

    def take(self) -> bytes:
        """What was noted since the last call, as the file has it."""
        noted, self._noted = self._noted, bytearray()
        return bytes(noted)
