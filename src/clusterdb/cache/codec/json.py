"""JSON by msgspec, for readers in any language.

What JSON has no form for is written as msgspec does (sets as arrays, bytes in Base64, dates in ISO
8601) and needs a type to come back. NaN, infinities, and keys that are the same text (``1`` and
``"1"``) are refused: they would come back as something else. Of a document with a name twice, which
only others write, the last one counts.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import msgspec

from .conversion import (
    decoding,
    is_untyped,
    json_hook,
    msgpack_hook,
    require_type,
    typed_json,
    untyped,
)
from .encoded import TYPED, CodecId, Encoded
from .fault import fault
from .plain import is_native

__all__ = ["decode", "encode"]

_JSON: Final = int(CodecId.JSON)
_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_KEYS: Final = frozenset({str})
_MAYBE_INFINITE: Final = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
"""A double of MessagePack whose exponent is all ones, or bytes that look like one."""

_encode: Final = msgspec.json.Encoder(enc_hook=json_hook).encode
_pack: Final = msgspec.msgpack.Encoder(enc_hook=msgpack_hook).encode
_decode: Final = msgspec.json.Decoder().decode


def encode(value: Any) -> Encoded:
    """Encode a value; raises :class:`EncodeError`."""
    try:
        payload = _checked(value)
    except Exception as error:
        raise fault(value, error, _checked) from error
    return Encoded(payload, _JSON, 0 if _is_plain(value) else TYPED)


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in _SCALARS or (
        (kind is dict or kind is list) and is_native(value, _SCALARS, _KEYS)
    )


def _checked(value: Any) -> bytes:
    """The document of a value that comes back from it."""
    payload = _encode(value)
    if b"null" in payload and _is_infinite(value):
        raise ValueError("JSON has no form for NaN and infinities")
    containers = isinstance(value, (dict, list, tuple)) and not _is_plain(value)
    if containers and _encode(_decode(payload)) != payload:
        raise ValueError("two keys of a dict in it are the same text in JSON")
    return payload


def _is_infinite(value: Any) -> bool:
    """Whether a float in ``value`` is NaN or infinite, which msgspec writes as null."""
    try:
        if not _MAYBE_INFINITE.search(_pack(value)):
            return False
    except OverflowError:
        pass  # an int that JSON has a form for, and MessagePack has not
    todo = [msgspec.to_builtins(value, enc_hook=msgpack_hook)]
    while todo:
        part = todo.pop()
        if isinstance(part, float) and not math.isfinite(part):
            return True
        if isinstance(part, dict):
            todo += [*part, *part.values()]
        elif isinstance(part, (list, tuple)):
            todo += part
    return False


def decode(payload: bytes, flags: int, wanted: Any) -> Any:
    """Decode a document: as a type, or as what it says itself."""
    if flags & TYPED:
        require_type(wanted)
    elif is_untyped(wanted):
        return untyped(_decode, payload)
    return decoding(typed_json, payload, wanted)
