"""Copies of rows: behind the payload stands the version of the row."""

from __future__ import annotations

import struct
from typing import Final

from ..errors import Undecodable
from .encoded import ROW, Encoded

__all__ = ["stamped", "unstamped"]

_VERSION: Final = struct.Struct(">Q")


def stamped(encoded: Encoded, version: int) -> Encoded:
    """The copy of a row at ``version``."""
    payload = encoded.payload + _VERSION.pack(version)
    return Encoded(payload, encoded.codec, encoded.flags | ROW)


def unstamped(encoded: Encoded) -> tuple[Encoded, int]:
    """What the row holds, and its version; 0 for what is no copy of a row."""
    if not encoded.flags & ROW:
        return encoded, 0
    end = len(encoded.payload) - _VERSION.size
    if end < 0:
        raise Undecodable("truncated within the version of its row")
    [version] = _VERSION.unpack_from(encoded.payload, end)
    return Encoded(encoded.payload[:end], encoded.codec, encoded.flags ^ ROW), version
