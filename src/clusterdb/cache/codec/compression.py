"""Compression of payloads, and decompression that hostile bytes can't make dear.

LZ4 payloads are a block behind the size of what it holds (4 bytes, little-endian); Zstandard
payloads are one frame that states its size. That size is checked against :data:`MAX_RATIO` and
:data:`MAX_BYTES` before anything is allocated, and both libraries then fill a buffer of exactly
that size. The limits hold when writing too: what would not come back is not compressed so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import lz4.block

from ..config import Compression
from ..errors import MissingExtra, Undecodable
from .encoded import COMPRESSION, LZ4, ZSTD, Encoded

__all__ = ["MAX_BYTES", "MAX_RATIO", "Compressor", "expand"]

MAX_BYTES: Final = 256 * 1024 * 1024
"""The largest payload that is compressed."""

MAX_RATIO: Final = 1024
"""How many times as large as its compressed form a payload may be; LZ4 can't pass 255."""

_SIZE_BYTES: Final = 4
_LEAST_FOR_HIGH: Final = 3
"""The least level of LZ4 that means its high compression; below it there is one fast mode."""


class Compressor:
    """Compresses payloads as configured, and only where that makes them smaller.

    Raises :class:`MissingExtra` for zstd without its library.
    """

    def __init__(self, config: Compression) -> None:
        self._min_size = int(config.min_size)
        self._lz4 = _lz4_options(config.level if config.algorithm == "lz4" else None)
        self._zstd = _Zstd(config.level) if config.algorithm == "zstd" else None

    def compress(self, encoded: Encoded) -> Encoded:
        """The same payload, compressed if it is large enough and becomes smaller."""
        payload = encoded.payload
        if not self._min_size <= len(payload) <= MAX_BYTES:
            return encoded
        if self._zstd is not None:
            small, flag = self._zstd.compress(payload), ZSTD
            if len(payload) > MAX_RATIO * len(small):
                small, flag = lz4.block.compress(payload), LZ4
        else:
            small, flag = lz4.block.compress(payload, **self._lz4), LZ4
        if len(small) >= len(payload):
            return encoded
        return Encoded(small, encoded.codec, encoded.flags | flag)


def expand(encoded: Encoded) -> bytes:
    """The payload as it was before compression; raises :class:`Undecodable`."""
    flag = encoded.flags & COMPRESSION
    if not flag:
        return encoded.payload
    reader = _READERS.get(flag)
    if reader is None:
        raise Undecodable(f"compression {flag} is not known")
    return reader(encoded.payload)


def _lz4_options(level: int | None) -> dict[str, Any]:
    if level is None or level < _LEAST_FOR_HIGH:
        return {"mode": "default"}
    return {"mode": "high_compression", "compression": level}


def _bounded(size: int, payload: bytes) -> None:
    if size > MAX_BYTES or size > MAX_RATIO * len(payload):
        raise Undecodable(f"{len(payload)} bytes claim to hold {size} when decompressed")


def _expand_lz4(payload: bytes) -> bytes:
    _bounded(int.from_bytes(payload[:_SIZE_BYTES], "little"), payload)
    try:
        return bytes(lz4.block.decompress(payload))
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise Undecodable(f"malformed LZ4 block ({error})") from error


class _Zstd:
    """The contexts of one level: one a thread, as they must not be shared, and are dear to make."""

    def __init__(self, level: int | None) -> None:
        try:
            import zstandard
        except ImportError:
            raise MissingExtra("compression by zstd", "zstd") from None
        self._level = 3 if level is None else level
        self._make = zstandard.ZstdCompressor
        self._local = threading.local()

    def compress(self, payload: bytes) -> bytes:
        try:
            compressor = self._local.compressor
        except AttributeError:
            compressor = self._local.compressor = self._make(level=self._level)
        return bytes(compressor.compress(payload))


_decompressors: Final = threading.local()


def _expand_zstd(payload: bytes) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise Undecodable("compressed by zstd, which needs the extra 'zstd'") from None
    try:
        size = zstandard.frame_content_size(payload)
        if size < 0:
            raise Undecodable("a Zstandard frame that does not state its size")
        _bounded(size, payload)
        if not hasattr(_decompressors, "zstd"):
            _decompressors.zstd = zstandard.ZstdDecompressor()
        found = bytes(_decompressors.zstd.decompress(payload, allow_extra_data=False))
    except zstandard.ZstdError as error:
        raise Undecodable(f"malformed Zstandard frame ({error})") from error
    if len(found) != size:
        raise Undecodable("a Zstandard frame of another size than it states")
    return found


_READERS: Final[dict[int, Callable[[bytes], bytes]]] = {LZ4: _expand_lz4, ZSTD: _expand_zstd}
