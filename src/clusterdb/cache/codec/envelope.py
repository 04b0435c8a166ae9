"""The envelope: what stands around a payload wherever it leaves the process.

::

    offset  bytes
         0      2  magic C1 DB
         2      1  format of the envelope: 1
         3      1  codec (CodecId)
         4      1  flags: bits 0-1 compression, bit 2 TYPED, bit 3 SIGNED, bit 4 ROW; others 0
         5      2  number of tags
         7      8  version of the entry, unsigned
        15      8  expiry: seconds since the Unix epoch, a double; infinity is none; negative is
                   the grace in seconds of an entry whose server keeps its expiry
        23      8  key binding: BLAKE2b-64 of region and key
        31      n  tags: length of the name (2), name in UTF-8, nonce (8, unsigned)
                m  payload
            0, 32  signature: HMAC-SHA256, where SIGNED
                4  CRC-32 of everything before it

All numbers are big-endian. ``docs/reference/envelope.md`` says the same for other languages, and
golden files pin it: a change of any byte is a new format.

Nothing of a payload is decoded before the checksum, the key binding and the signature are right.
The checksum finds damage, the binding an entry that was moved to another key; neither stops who
can write to the backend: that takes a signature.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct
from collections.abc import Sequence
from typing import Final
from zlib import crc32

import msgspec

from ..errors import Undecodable
from .encoded import COMPRESSION, ROW, TYPED, Encoded

__all__ = ["FORMAT", "HEADER_BYTES", "SIGNED", "Envelopes", "Sealed"]

MAGIC: Final = b"\xc1\xdb"
FORMAT: Final = 1
SIGNED: Final = 0b1000
_KNOWN: Final = COMPRESSION | TYPED | SIGNED | ROW

_BEGINNING: Final = MAGIC + bytes([FORMAT])
_HEADER: Final = struct.Struct(">2sBBBHQd8s")
_TAG: Final = struct.Struct(">H")
_NONCE: Final = struct.Struct(">Q")
_CHECKSUM: Final = struct.Struct(">I")
_pack_header: Final = _HEADER.pack
_unpack_fields: Final = struct.Struct(">BBHQd8s").unpack_from  # what is behind the beginning
_pack_checksum: Final = _CHECKSUM.pack
_unpack_checksum: Final = _CHECKSUM.unpack_from
_SIGNATURE_BYTES: Final = 32
_DOMAIN: Final = b"clusterdb.cache envelope 1\0"
_NEVER: Final = math.inf

_LARGE: Final = 4096  # below it a copy is made sooner than a view
_MOST_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 256

_HEAD_BYTES: Final = 31
HEADER_BYTES: Final = _HEAD_BYTES + 4
"""What an envelope without tags and signature adds to a payload."""


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """What an envelope held. ``expires_at``: seconds since the Unix epoch, or less than 0: the
    grace; ``tags``: names and nonces.
    """

    version: int
    expires_at: float | None
    tags: tuple[tuple[str, int], ...]
    encoded: Encoded


class Envelopes:
    """Seals and opens the envelopes of one region; with ``keys`` it signs by the first and takes
    the signatures of all.
    """

    def __init__(self, region: str, keys: Sequence[bytes] = ()) -> None:
        name = region.encode()
        self._scope = len(name).to_bytes(4, "big") + name
        self._binding = hashlib.blake2b(self._scope, digest_size=8)
        self._bindings: dict[str, bytes] = {}
        self._keys = tuple(keys)

    def seal(
        self,
        key: str,
        version: int,
        encoded: Encoded,
        *,
        expires_at: float | None,
        tags: Sequence[tuple[str, int]],
    ) -> bytes:
        """The envelope of a payload."""
        flags = encoded.flags | SIGNED if self._keys else encoded.flags
        expiry = _NEVER if expires_at is None else expires_at
        head = _pack_header(
            MAGIC, FORMAT, encoded.codec, flags, len(tags), version, expiry, self._bound(key)
        )
        if tags:
            head = b"".join([head, *map(_pack_tag, tags)])
        payload = encoded.payload
        if self._keys:
            payload += self._sign(self._keys[0], key.encode(), head + payload)
        return b"".join([head, payload, _pack_checksum(crc32(payload, crc32(head)))])

    def unseal(self, key: str, data: bytes) -> Sealed:
        """What an envelope holds; raises :class:`Undecodable` for one that is not of this key, was
        changed, or is not signed as it must be.
        """
        size = len(data)
        if data[:3] != _BEGINNING or size < HEADER_BYTES:
            raise _no_envelope(data)
        codec, flags, count, version, expiry, bound = _unpack_fields(data, 3)
        end = size - 4
        body = data[:end] if size < _LARGE else memoryview(data)[:end]
        if _unpack_checksum(data, end)[0] != crc32(body):
            raise Undecodable("corrupted or truncated: its checksum is wrong")
        if flags & ~_KNOWN:
            raise Undecodable(f"flags {flags:#x} of a newer release")
        if bound != self._bound(key):
            raise Undecodable("swapped: it was stored under another key or region")
        if flags & SIGNED:
            end -= _SIGNATURE_BYTES
            self._check_signature(key.encode(), memoryview(data), end)
            flags ^= SIGNED
        elif self._keys:
            raise Undecodable("not signed, and this region has signing keys")
        found: tuple[tuple[str, int], ...] = ()
        start = _HEAD_BYTES
        if count:
            found, start = _read_tags(memoryview(data)[:end], count)
        if start > end:
            raise Undecodable("truncated within its tags")
        expires_at = None if expiry == _NEVER else expiry
        return Sealed(version, expires_at, found, Encoded(data[start:end], codec, flags))

    def _bound(self, key: str) -> bytes:
        """The binding of a key; those of late are remembered, as they cost what a checksum does."""
        bound = self._bindings.get(key)
        if bound is None:
            binding = self._binding.copy()
            binding.update(key.encode())
            bound = binding.digest()
            if len(key) <= _LONGEST_REMEMBERED:
                if len(self._bindings) >= _MOST_REMEMBERED:
                    self._bindings.clear()
                self._bindings[key] = bound
        return bound

    def _check_signature(self, key: bytes, view: memoryview, end: int) -> None:
        """Check against every key; a region without keys takes what others signed."""
        if not self._keys:
            return
        if end < _HEAD_BYTES:
            raise Undecodable("truncated within its signature")
        given, body = bytes(view[end : end + _SIGNATURE_BYTES]), bytes(view[:end])
        right = [hmac.compare_digest(given, self._sign(secret, key, body)) for secret in self._keys]
        if not any(right):
            raise Undecodable("badly signed: by none of this region's keys")

    def _sign(self, secret: bytes, key: bytes, body: bytes) -> bytes:
        size = len(key).to_bytes(4, "big")
        message = b"".join([_DOMAIN, self._scope, size, key, body])
        return hmac.digest(secret, message, "sha256")


def _no_envelope(data: bytes) -> Undecodable:
    """Why ``data`` can't be opened, which does not begin as it must or is too short."""
    if data[:2] != MAGIC:
        return Undecodable("foreign: it does not begin as an envelope")
    if len(data) < HEADER_BYTES:
        return Undecodable(f"truncated to {len(data)} bytes")
    return Undecodable(f"envelope of format {data[2]}, and this release reads {FORMAT}")


def _pack_tag(tag: tuple[str, int]) -> bytes:
    name = tag[0].encode()
    return b"".join([_TAG.pack(len(name)), name, _NONCE.pack(tag[1])])


def _read_tags(view: memoryview, count: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """The tags of a header, and where the payload begins."""
    tags, at = [], _HEAD_BYTES
    try:
        for _ in range(count):
            start = at + _TAG.size
            at = start + _TAG.unpack_from(view, at)[0]
            tags.append((str(view[start:at], "utf-8"), _NONCE.unpack_from(view, at)[0]))
            at += _NONCE.size
    except (struct.error, UnicodeDecodeError) as error:
        raise Undecodable("its tags are malformed") from error
    return tuple(tags), at
