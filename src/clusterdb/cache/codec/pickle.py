"""Pickle, for regions that ask for it and sign.

Reading a pickle runs what its writer chose. So a region takes pickles only with signing keys, its
envelopes are refused before a byte is decoded unless one of the keys signed them, and no other
format has this reader.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

from .conversion import untyped
from .encoded import CodecId, Encoded
from .fault import fault

__all__ = ["decode", "encode"]

_PROTOCOL: Final = 5


def encode(value: Any) -> Encoded:
    """Encode a value; raises :class:`EncodeError`."""
    try:
        return Encoded(_dumps(value), int(CodecId.PICKLE))
    except Exception as error:
        raise fault(value, error, _dumps) from error


def decode(payload: bytes, _flags: int, _wanted: Any) -> Any:
    """Decode a payload whose signature was checked. It says its types itself."""
    return untyped(pickle.loads, payload)


def _dumps(value: Any) -> bytes:
    return pickle.dumps(value, _PROTOCOL)
