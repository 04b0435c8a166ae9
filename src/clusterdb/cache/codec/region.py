"""The codec of one region: format, compression, envelope and signature put together.

What a region reads is wider than what it writes, so that a change of ``format`` loses nothing: the
formats that can't run code are read everywhere but where a schema decides or a program's own codec
does. Pickles are read by regions of that format alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from ..config import Compression, SerializationConfig
from ..errors import Undecodable
from . import integer, json, messagepack, pickle, raw
from .avro import Avro
from .compression import Compressor, expand
from .custom import Codec, Custom
from .encoded import COMPRESSION, ROW, CodecId, Encoded
from .envelope import Envelopes, Sealed
from .stamps import unstamped

__all__ = ["RegionCodec", "region_codec"]

Encode: TypeAlias = Callable[[Any], Encoded]
Decode: TypeAlias = Callable[[bytes, int, Any], Any]

# By plain ints: a member of an enum takes a comparison of its own to be found.
_HARMLESS: Final[dict[int, Decode]] = {
    int(CodecId.INTEGER): integer.decode,
    int(CodecId.MESSAGEPACK): messagepack.decode,
    int(CodecId.JSON): json.decode,
    int(CodecId.BYTES): raw.decode_bytes,
    int(CodecId.TEXT): raw.decode_text,
}
_PICKLE: Final[dict[int, Decode]] = {
    int(CodecId.INTEGER): integer.decode,
    int(CodecId.PICKLE): pickle.decode,
}
_FORMATS: Final[dict[str, tuple[Encode, dict[int, Decode]]]] = {
    "messagepack": (messagepack.encode, _HARMLESS),
    "json": (json.encode, _HARMLESS),
    "raw": (raw.encode, _HARMLESS),
    "pickle": (pickle.encode, _PICKLE),
}
_COUNTING: Final = ("messagepack", "json", "pickle")
"""The formats in which an int is kept so that a server can add to it."""


class RegionCodec:
    """How one region's values become bytes and come back. Immutable; equal by configuration.

    A value becomes :class:`Encoded` where it is set, and an envelope in the backend: only there its
    version is known. No I/O, except reading a schema file when built. Safe to call from threads.
    ``counts``: ints are kept so that a backend can add to them.
    """

    __slots__ = (
        "_compressor",
        "_config",
        "_encode",
        "_envelopes",
        "_readers",
        "_schema",
        "counts",
        "signs",
    )

    def __init__(
        self,
        region: str,
        serialization: SerializationConfig,
        compression: Compression | None,
        custom: Codec | None,
    ) -> None:
        self._config = (region, serialization, compression, custom)
        schema = None if serialization.schema is None else Avro(serialization.schema)
        self._schema = schema if serialization.format != "avro" or custom is not None else None
        self.counts = custom is None and serialization.format in _COUNTING
        self._encode, self._readers = _format(serialization.format, schema, custom)
        self._compressor = None if compression is None else Compressor(compression)
        keys = [key.encode(errors="surrogatepass") for key in serialization.keys]
        self.signs = bool(keys)
        self._envelopes = Envelopes(region, keys)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegionCodec) and self._config == other._config

    def __hash__(self) -> int:
        return hash(self._config[:3])

    def __repr__(self) -> str:
        region, serialization, _, custom = self._config
        form = serialization.format if custom is None else type(custom).__qualname__
        return f"<RegionCodec of region {region!r}: {form}>"

    def encode(self, value: object) -> Encoded:
        """The bytes of a value; raises :class:`EncodeError`. CPU time only."""
        if self._schema is not None:
            self._schema.validate(value)
        if self.counts and type(value) is int and integer.MIN <= value <= integer.MAX:
            return integer.encode(value)
        encoded = self._encode(value)
        if self._compressor is not None:
            return self._compressor.compress(encoded)
        return encoded

    def decode(self, encoded: Encoded, type: Any = None) -> Any:
        """The value of some bytes, as a type.

        Raises :class:`Undecodable` for malformed bytes, :class:`TypeRequired` where only a type
        says what they were, :class:`TypeMismatch` where they do not fit it. A pickle and what a
        program's own codec gives are returned as they come.
        """
        if encoded.flags & ROW:  # cached when the region had a storage behind it
            encoded = unstamped(encoded)[0]
        flags = encoded.flags
        payload = expand(encoded) if flags & COMPRESSION else encoded.payload
        return self._reader(encoded.codec)(payload, flags, type)

    def seal(
        self,
        key: str,
        version: int,
        encoded: Encoded,
        *,
        expires_at: float | None,
        tags: Sequence[tuple[str, int]],
    ) -> bytes:
        """The envelope of an entry. ``expires_at``: seconds since the Unix epoch; ``tags``: names
        and nonces.
        """
        return self._envelopes.seal(key, version, encoded, expires_at=expires_at, tags=tags)

    def unseal(self, key: str, data: bytes) -> Sealed:
        """What is in an envelope; raises :class:`Undecodable` for one that this region did not
        write under this key, or does not read.
        """
        sealed = self._envelopes.unseal(key, data)
        self._reader(sealed.encoded.codec)
        return sealed

    def _reader(self, codec: int) -> Decode:
        reader = self._readers.get(codec)
        if reader is None:
            known = {each.value: each.name.lower() for each in CodecId}
            raise Undecodable(
                f"written as {known.get(codec, f'codec {codec}')}, which this region does not "
                f"read: its configuration has another format than who wrote it"
            )
        return reader


def _format(
    name: str, schema: Avro | None, custom: Codec | None
) -> tuple[Encode, dict[int, Decode]]:
    if custom is not None:
        own = Custom(custom)
        return own.encode, {int(CodecId.CUSTOM): own.decode}
    if name == "avro":
        assert schema is not None
        return schema.encode, {int(CodecId.AVRO): schema.decode}
    return _FORMATS[name]


def region_codec(
    region: str,
    serialization: SerializationConfig,
    compression: Compression | None,
    custom: Codec | None = None,
) -> RegionCodec:
    """The codec of a region. ``compression`` is the policy's; ``serialization.compression`` may
    switch it off, or on with its defaults. ``custom`` takes the place of ``serialization.format``.

    Raises :class:`ConfigError` for a format without what it needs, :class:`MissingExtra`.
    """
    if serialization.compression is False:
        compression = None
    elif serialization.compression is True and compression is None:
        compression = Compression()
    return RegionCodec(region, serialization, compression, custom)
