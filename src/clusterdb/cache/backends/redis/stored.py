r"""What is stored under the key of an entry: an envelope, or a claim on it.

**Envelope** (:mod:`clusterdb.cache.codec.envelope`). The server's expiry is that of the entry plus
its grace, so that stale reads find it; the field of the expiry holds the grace, as a negative
number of seconds. Each entry carries its own, as a region's grace may change.

**Claim** on a key that has no live entry::

    offset  bytes
         0      1  00
         1     16  token: random, of the holder
        17      8  held until: milliseconds of the server's clock, a double
        25      8  the old value is kept until, likewise; 0: there is none
        33         the old value: the envelope that was there, expired and within its grace

A claim is absence for every operation but a stale read. Anything else under such a key is foreign:
it reads as :class:`Undecodable`, and writes replace it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from ...codec import Encoded, RegionCodec, Sealed
from ...errors import Undecodable
from ...settings import RegionSettings
from ...types import Record, Version
from ...versions import RANDOM_BITS

__all__ = [
    "ABSENT",
    "CLAIM_HEADER",
    "HEAD_BYTES",
    "LONG_HEAD",
    "TOKEN_BYTES",
    "claim_token",
    "codec_of",
    "expiry_ms",
    "grace_ms",
    "has_grace",
    "head_tags",
    "is_claim",
    "is_live",
    "milliseconds",
    "packed",
    "region_nonce",
    "seal",
    "sealed_record",
    "shown_tags",
    "undecodable_record",
    "version_micros",
    "version_of",
]

MAGIC: Final = b"\xc1\xdb"
HEAD_BYTES: Final = 31
SHORTEST: Final = 35
_REGION_NONCE: Final = HEAD_BYTES + 2
LONG_HEAD: Final = _REGION_NONCE + 8
TOKEN_BYTES: Final = 16
CLAIM_HEADER: Final = 33
ABSENT: Final = b""
"""The version of nothing, in a script's arguments."""

_VERSION: Final = struct.Struct(">Q")
_COUNT: Final = struct.Struct(">H")
_EXPIRY: Final = struct.Struct(">d")


def codec_of(settings: RegionSettings) -> RegionCodec:
    """The codec of a region, which in a backend that encodes each has."""
    assert settings.codec is not None, "a region of an encoding backend has a codec"
    return settings.codec


def packed(version: Version) -> bytes:
    """A version as the header has it."""
    return _VERSION.pack(version)


def milliseconds(seconds: float) -> int:
    """A time to live as a server takes it: at least a millisecond."""
    return int(seconds * 1000 + 0.5) or 1


def expiry_ms(ttl: float | None, grace: float) -> int | str:
    """The argument of ``PX``: time to live and grace in seconds; empty for no expiry."""
    if ttl is None:
        return ""
    return milliseconds(ttl) + int(grace * 1000 + 0.5)


def seal(
    codec: RegionCodec,
    key: str,
    version: Version,
    encoded: Encoded,
    grace: float,
    nonces: Sequence[tuple[str, int]] = (),
) -> bytes:
    """The envelope of an entry, with its grace (seconds)."""
    expiry = -grace if grace > 0 else None
    return codec.seal(key, version, encoded, expires_at=expiry, tags=nonces)


def _grace(data: bytes) -> float:
    (expiry,) = _EXPIRY.unpack_from(data, 15)
    return -expiry if expiry < 0 else 0.0


def grace_ms(data: bytes) -> int:
    """The grace of an envelope in milliseconds, as the scripts round it."""
    return int(_grace(data) * 1000 + 0.5)


def has_grace(data: bytes) -> bool:
    """Whether it is an envelope with a grace: one whose expiry field is negative."""
    return is_envelope(data) and data[15] >= 0x80


def is_claim(data: bytes) -> bool:
    """Whether it is a claim."""
    return data[:1] == b"\0" and len(data) >= CLAIM_HEADER


def claim_token(data: bytes) -> bytes:
    """The token of a claim; empty for anything else."""
    return data[1 : 1 + TOKEN_BYTES] if is_claim(data) else b""


def is_envelope(data: bytes) -> bool:
    """Whether it begins as an envelope."""
    return data[:2] == MAGIC and len(data) >= SHORTEST


def is_live(head: bytes, pttl: int) -> bool:
    """Whether an entry lives, by the first `SHORTEST` bytes of its value and its ``PTTL``."""
    if not is_envelope(head):
        return False
    return pttl == -1 or pttl > grace_ms(head)


def version_of(data: bytes) -> Version:
    """The version of what is stored; 0 for what is foreign."""
    return int(_VERSION.unpack_from(data, 7)[0]) if is_envelope(data) else 0


def version_micros(data: bytes) -> int:
    """When what is stored was written, in microseconds since 1970; 0 for what is foreign."""
    return version_of(data) >> RANDOM_BITS


def region_nonce(head: bytes) -> int | None:
    """The nonce of the region's tag, which has an empty name and comes first, by the first
    `LONG_HEAD` bytes of an envelope; ``None`` without one.
    """
    if head[5:7] == b"\0\0" or head[HEAD_BYTES:_REGION_NONCE] != b"\0\0" or len(head) < LONG_HEAD:
        return None
    return int(_VERSION.unpack_from(head, _REGION_NONCE)[0])


def shown_tags(tags: Sequence[tuple[str, int]]) -> tuple[str, ...]:
    """The names of tags, without the one that a region has given."""
    return tuple([name for name, _ in tags if name])


def head_tags(head: bytes) -> list[tuple[str, int]] | None:
    """Tags and nonces in a header with its tags; ``None`` where they are malformed."""
    tags, at = [], HEAD_BYTES
    try:
        for _ in range(_COUNT.unpack_from(head, 5)[0]):
            start = at + _COUNT.size
            at = start + _COUNT.unpack_from(head, at)[0]
            tags.append((head[start:at].decode(), _VERSION.unpack_from(head, at)[0]))
            at += _VERSION.size
    except (struct.error, UnicodeDecodeError):
        return None
    return tags


def sealed_record(
    codec: RegionCodec, key: str, data: bytes, left: int | None
) -> tuple[Record, Sealed | None]:
    """The record of what is stored, and what its envelope held. ``left`` is its logical time to
    live in milliseconds, ``None`` for ever.
    """
    try:
        sealed = codec.unseal(key, data)
    except Undecodable as error:
        return undecodable_record(key, data, left, error), None
    expires_in = None if left is None else left / 1000
    tags = shown_tags(sealed.tags)
    return Record(key, sealed.encoded, sealed.version, expires_in, tags, "redis"), sealed


def undecodable_record(key: str, data: bytes, left: int | None, error: Undecodable) -> Record:
    """The record of what can't be read, and why."""
    expires_in = None if left is None else left / 1000
    return Record(key, error, version_of(data), expires_in, (), "redis")
