"""A value as bytes, before a backend puts it into its envelope."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

__all__ = [
    "COMPRESSION",
    "LZ4",
    "ROW",
    "TYPED",
    "ZSTD",
    "CodecId",
    "Encoded",
]

LZ4: Final = 1
ZSTD: Final = 2
COMPRESSION: Final = 0b11
"""The bits of the flags that say how the payload is compressed; 0: not."""

TYPED: Final = 0b100
"""The flag of a payload that does not say by itself which Python types it was made of."""

ROW: Final = 0b1_0000
"""The flag of a copy of a row of storage: behind the payload stands the row's version."""


class CodecId(enum.IntEnum):
    """What wrote a payload. Part of the envelope: numbers are never used again."""

    INTEGER = 1
    MESSAGEPACK = 2
    JSON = 3
    BYTES = 4
    TEXT = 5
    AVRO = 6
    PICKLE = 7
    CUSTOM = 64


class Encoded(msgspec.Struct, frozen=True, gc=False):
    """A payload, compressed where ``flags`` say so, and what is needed to read it."""

    payload: bytes
    codec: int
    flags: int = 0
