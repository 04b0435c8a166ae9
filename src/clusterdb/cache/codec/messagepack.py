"""MessagePack by msgspec: the self-describing form where the value has one, else the typed form."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from .conversion import converted, decoding, is_untyped, msgpack_hook, require_type, untyped
from .conversion import typed_msgpack as typed
from .encoded import TYPED, CodecId, Encoded
from .fault import fault
from .plain import DESCRIBED, SCALARS, NotPlain, describe, is_native
from .plain import decode as decode_plain

__all__ = ["decode", "encode"]

_MESSAGEPACK: Final = int(CodecId.MESSAGEPACK)
_encode: Final = msgspec.msgpack.Encoder(enc_hook=msgpack_hook).encode


def encode(value: Any) -> Encoded:
    """Encode a value; raises :class:`EncodeError`."""
    try:
        return _encoded(value)
    except Exception as error:
        probe = _encoded if isinstance(error, RecursionError) else _encode
        raise fault(value, error, probe) from error


def _encoded(value: Any) -> Encoded:
    kind = type(value)
    try:
        payload = _encode(value)
    except (NotImplementedError, OverflowError):  # a complex or a big int has another form
        payload = None
    if payload is not None:
        if kind not in DESCRIBED:
            return Encoded(payload, _MESSAGEPACK, 0 if kind in SCALARS else TYPED)
        if (kind is dict or kind is list) and is_native(value):
            return Encoded(payload, _MESSAGEPACK)
    try:
        return Encoded(_encode(describe(value)), _MESSAGEPACK)
    except NotPlain:
        if payload is None:
            payload = _encode(value)  # fails again, with the reason
        return Encoded(payload, _MESSAGEPACK, TYPED)


def decode(payload: bytes, flags: int, wanted: Any) -> Any:
    """Decode a payload: as a type, or as what it says itself."""
    if flags & TYPED:
        require_type(wanted)
        return decoding(typed, payload, wanted)
    if is_untyped(wanted):
        return untyped(decode_plain, payload)
    try:
        return typed(wanted)(payload)
    except Exception:  # noqa: BLE001 - an extension may stand where msgspec has a form of its own
        return converted(untyped(decode_plain, payload), wanted)
