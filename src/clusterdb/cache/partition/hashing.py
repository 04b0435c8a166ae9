"""What of a key decides where it lives, and the hash that places it.

Other programs that share the servers must get the same bytes: docs/reference/ring.md. BLAKE2b is
in every language's libraries and spreads alike whatever the keys look like; Python's own ``hash``
differs from process to process, and a CRC spreads keys that are alike too evenly to be trusted.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["hash64", "hash_tag"]


def hash64(data: bytes) -> bytes:
    """BLAKE2b of 8 bytes; as big-endian numbers they order like the bytes do."""
    return blake2b(data, digest_size=8).digest()


def hash_tag(key: bytes) -> bytes:
    """The part of ``key`` that is hashed: what stands in its first ``{...}``, if that is not empty,
    else all of it. Source: Redis Cluster specification, "Hash tags".
    """
    opening = key.find(b"{")
    if opening >= 0:
        closing = key.find(b"}", opening + 1)
        if closing > opening + 1:
            return key[opening + 1 : closing]
    return key
