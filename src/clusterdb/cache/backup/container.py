"""Avro object container files, written and read a block at a time.

The format is that of the Avro 1.11 specification ("Object Container Files"), with the codec
``zstandard``: a header with the schema, then blocks of records, each compressed by itself and
followed by the file's sync marker. Any tool that knows Avro opens one. The records are encoded by
``fastavro``; the frame round them is made here, because a file comes and goes in pieces of a
stream, and because what is inflated must have a limit.

Each block is a zstd frame with a checksum, so that damage is found before a record of it is used.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, Final

from ..errors import MissingExtra

__all__ = ["ENTRIES", "INDEX", "BlockReader", "BlockWriter", "MalformedFile"]

_MAGIC: Final = b"Obj\x01"
_SYNC_BYTES: Final = 16
_LEVEL: Final = 3
_MOST_HEADER: Final = 64 * 1024
_MOST_RECORDS: Final = 1_000_000
_MOST_BLOCK: Final = 1024 * 1024 * 1024
_META: Final = {"type": "map", "values": "bytes"}

ENTRIES: Final[dict[str, Any]] = {
    "type": "record",
    "name": "Entry",
    "namespace": "clusterdb.cache.backup",
    "fields": [
        {"name": "key", "type": "string"},
        {"name": "value", "type": "bytes"},
        {"name": "version", "type": "long"},
        {"name": "expires_in", "type": ["null", "double"]},
        {"name": "expires_at", "type": ["null", "double"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "kind", "type": "string"},
    ],
}
"""An entry. ``expires_at`` is seconds since the Unix epoch, ``expires_in`` seconds from when it was
read. ``value`` is its envelope, ``kind`` the class of an object that its bytes don't tell, else
empty."""

INDEX: Final[dict[str, Any]] = {
    "type": "record",
    "name": "Present",
    "namespace": "clusterdb.cache.backup",
    "fields": [
        {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 16}},
        {"name": "version", "type": "long"},
        {"name": "content", "type": {"type": "fixed", "name": "Content", "size": 8}},
        {"name": "expires_at", "type": ["null", "double"]},
        {"name": "sequence", "type": "long"},
    ],
}
"""What was there at the time of a backup, in the order of the hashes. ``sequence`` is the number of
the backup in the chain that holds the entry."""


class MalformedFile(Exception):
    """A file is not what this release wrote; its text says what is wrong with it."""


def _libraries() -> tuple[Any, Any]:
    """Fastavro and zstandard, which only whoever makes or reads a backup needs."""
    try:
        import fastavro
        import zstandard
    except ImportError as error:
        raise MissingExtra("a backup", "backup") from error
    return fastavro, zstandard


class BlockWriter:
    """Makes the bytes of one file. ``metadata`` goes into its header."""

    def __init__(self, schema: dict[str, Any], metadata: Mapping[str, str]) -> None:
        avro, zstandard = _libraries()
        self._schema, self._write = avro.parse_schema(schema), avro.schemaless_writer
        self._sync = secrets.token_bytes(_SYNC_BYTES)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        about = {"avro.schema": json.dumps(schema), "avro.codec": "zstandard", **metadata}
        out = BytesIO()
        out.write(_MAGIC)
        self._write(out, _META, {name: text.encode() for name, text in about.items()})
        out.write(self._sync)
        self.header = out.getvalue()

    def block(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        """The bytes of a block of records."""
        out, schema, write = BytesIO(), self._schema, self._write
        for record in records:
            write(out, schema, record)
        packed = self._compressor.compress(out.getbuffer())
        return b"".join([_long(len(records)), _long(len(packed)), packed, self._sync])


class BlockReader:
    """Reads one file that comes in pieces, and has the given schema and metadata."""

    def __init__(self, schema: dict[str, Any], metadata: Mapping[str, str]) -> None:
        avro, zstandard = _libraries()
        self._schema, self._read = avro.parse_schema(schema), avro.schemaless_reader
        self._zstandard = zstandard
        self._written = json.dumps(schema).encode()
        self._expected = {name: text.encode() for name, text in metadata.items()}
        self._decompressor = zstandard.ZstdDecompressor()
        self._sync: bytes | None = None
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterable[list[dict[str, Any]]]:
        """The records of each block that is whole with this piece. Raises
        :class:`MalformedFile`.
        """
        self._waiting += data
        if self._sync is None and not self._read_header():
            return
        while (block := self._next()) is not None:
            yield self._records(*block)

    def end(self) -> None:
        """Nothing more comes: raises :class:`MalformedFile` where something should."""
        if self._sync is None or self._waiting:
            raise MalformedFile("is truncated")

    def _read_header(self) -> bool:
        """Whether the header was whole, and is read."""
        start = bytes(self._waiting[:_MOST_HEADER])
        if not _MAGIC.startswith(start[:4]) and not start.startswith(_MAGIC):
            raise MalformedFile("is no Avro file")
        stream = BytesIO(start)
        stream.seek(len(_MAGIC))
        try:
            about: Any = self._read(stream, _META, None)
        except Exception as error:  # of hostile bytes the library raises anything
            if len(start) == _MOST_HEADER:
                raise MalformedFile("has a header that can't be read") from error
            return False
        end = stream.tell() + _SYNC_BYTES
        if len(start) < end:
            return False
        self._check(about)
        self._sync = start[end - _SYNC_BYTES : end]
        del self._waiting[:end]
        return True

    def _check(self, about: Mapping[str, bytes]) -> None:
        for name, right in self._expected.items():
            found = about.get(name)
            if found != right:
                shown = "nothing" if found is None else repr(found.decode(errors="replace")[:80])
                raise MalformedFile(f"is foreign: its {name} is {shown}, not {right.decode()!r}")
        if about.get("avro.codec") != b"zstandard" or about.get("avro.schema") != self._written:
            raise MalformedFile("has another codec or schema than this release writes")

    def _next(self) -> tuple[int, bytes] | None:
        """The number of records and the packed bytes of the next block, once it is whole."""
        count, at = _read_long(self._waiting, 0)
        size, start = _read_long(self._waiting, at) if at else (0, 0)
        if not start:
            return None
        if not (0 < count <= _MOST_RECORDS and 0 < size <= _MOST_BLOCK):
            raise MalformedFile(f"has a block of {count} records in {size} bytes")
        end = start + size + _SYNC_BYTES
        if len(self._waiting) < end:
            return None
        packed, sync = (
            bytes(self._waiting[start : start + size]),
            bytes(self._waiting[start + size : end]),
        )
        if sync != self._sync:
            raise MalformedFile("has a damaged block: its sync marker is wrong")
        del self._waiting[:end]
        return count, bytes(packed)

    def _records(self, count: int, packed: bytes) -> list[dict[str, Any]]:
        try:
            stream = BytesIO(self._inflated(packed))
            schema, read = self._schema, self._read
            records: Any = [read(stream, schema, None) for _ in range(count)]
        except MalformedFile:
            raise
        except Exception as error:  # of hostile bytes the library raises anything
            raise MalformedFile(f"has a damaged block: {error}") from error
        if stream.read(1):
            raise MalformedFile("has a block with more than its records")
        return list(records)

    def _inflated(self, packed: bytes) -> bytes:
        size = self._zstandard.frame_content_size(packed)
        if not 0 <= size <= _MOST_BLOCK:
            raise MalformedFile(f"has a damaged block, of {size} bytes")
        inflated: bytes = self._decompressor.decompress(packed)
        return inflated


def _long(number: int) -> bytes:
    """A number that is not negative, as Avro has it: zigzag, seven bits a byte."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_long(data: bytearray, at: int) -> tuple[int, int]:
    """The number at a place, and where it ends; 0 there while more has to come."""
    number = shift = 0
    for place in range(at, min(at + 10, len(data))):
        byte = data[place]
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (number >> 1) ^ -(number & 1), place + 1
    if len(data) >= at + 10:
        raise MalformedFile("has a damaged block: its length is no number")
    return 0, 0
