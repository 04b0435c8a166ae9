"""The file that a recording of a live cache is: a head, the share of keys, hashes of keys.

Keys are hashed by this process (Python's own hash, salted at its start) and can't be got back from
the file; two recordings can't be compared key by key.
"""

from __future__ import annotations

import struct
from typing import Final

__all__ = ["MAGIC", "SHARE"]

MAGIC: Final = b"clusterdb-tr"
SHARE: Final = struct.Struct("<d")
"""Follows the magic; then little-endian 64-bit hashes, one a request."""
