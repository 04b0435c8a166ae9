"""Bytes and text as they are."""

from __future__ import annotations

from typing import Any

from ..errors import EncodeError
from .conversion import converted, untyped
from .encoded import CodecId, Encoded

__all__ = ["decode_bytes", "decode_text", "encode"]


def encode(value: Any) -> Encoded:
    """Encode exact bytes or str; raises :class:`EncodeError` for anything else."""
    kind = type(value)
    if kind is bytes:
        return Encoded(value, int(CodecId.BYTES))
    if kind is str:
        try:
            return Encoded(value.encode(), int(CodecId.TEXT))
        except UnicodeEncodeError as error:
            raise EncodeError("$", "str", f"it has no UTF-8 form: {error.reason}") from error
    raise EncodeError("$", kind.__qualname__, "format raw stores bytes and str; choose another")


def decode_bytes(payload: bytes, _: int, wanted: Any) -> Any:
    """Bytes."""
    return converted(payload, wanted)


def decode_text(payload: bytes, _: int, wanted: Any) -> Any:
    """Text."""
    return converted(untyped(bytes.decode, payload), wanted)
