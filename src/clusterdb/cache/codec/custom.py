"""A program's own codec, by two methods."""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import CacheError, EncodeError, Undecodable
from .encoded import CodecId, Encoded

__all__ = ["Codec", "Custom"]


class Codec(Protocol):
    """How a program's values become bytes and come back. Called from any thread.

    An exception of ``encode`` reaches the caller of ``set`` as :class:`EncodeError`; one of
    ``decode`` means that the bytes can't be read, a miss, unless it is a ``TypeMismatch``.
    """

    def encode(self, value: Any, /) -> bytes:
        """The bytes of ``value``."""
        ...

    def decode(self, data: bytes, type: Any, /) -> Any:
        """The value of ``data``; ``type`` is what the caller asked for, ``None`` for nothing."""
        ...


class Custom:
    """A format that a program's codec writes and reads."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def encode(self, value: Any) -> Encoded:
        """Encode a value; raises :class:`EncodeError`."""
        kind = type(value).__qualname__
        try:
            payload = self._codec.encode(value)
        except CacheError:
            raise
        except Exception as error:
            raise EncodeError("$", kind, f"{type(error).__name__}: {error}") from error
        if not isinstance(payload, bytes):
            given = type(payload).__qualname__
            raise EncodeError("$", kind, f"its codec gave a {given}, and must give bytes")
        return Encoded(payload, int(CodecId.CUSTOM))

    def decode(self, payload: bytes, _flags: int, wanted: Any) -> Any:
        """Decode a payload; raises :class:`Undecodable`, and what the codec raises of ours."""
        try:
            return self._codec.decode(payload, wanted)
        except CacheError:
            raise
        except Exception as error:
            reason = f"the region's own codec: {type(error).__name__}: {error}"
            raise Undecodable(reason) from error
