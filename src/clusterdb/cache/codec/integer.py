"""An int of 64 bits as decimal digits, so that a server can add to it."""

from __future__ import annotations

from typing import Any, Final

from ..errors import Undecodable
from .conversion import converted
from .encoded import CodecId, Encoded

__all__ = ["MAX", "MIN", "decode", "encode"]

MIN: Final = -(2**63)
MAX: Final = 2**63 - 1
_LONGEST: Final = len(b"%d" % MIN)


def encode(value: int) -> Encoded:
    """Encode an int that is within the bounds."""
    return Encoded(b"%d" % value, int(CodecId.INTEGER))


def decode(payload: bytes, _: int, wanted: Any) -> Any:
    """Decode digits in the one form that :func:`encode` writes."""
    digits = payload.removeprefix(b"-")
    if not digits.isdigit() or len(payload) > _LONGEST or b"%d" % int(payload) != payload:
        raise Undecodable("malformed: not the digits of an int")
    return converted(int(payload), wanted)
