"""One file of a backup as a stream: records to bytes and back, and what it is known by.

Going out: Avro blocks, frames of ciphertext where there is a key, and the SHA-256 of what is
stored. Coming in: the same backwards. A reader gives a block once it is whole, undamaged and, with
a key, authentic; that the file as a whole is the one the manifest means is known at its end.

Pure: bytes in, bytes out. Both cost CPU time, so callers run them in threads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..errors import BackupCorrupt
from .container import ENTRIES, INDEX, BlockReader, BlockWriter, MalformedFile
from .manifest import FORMAT, BackupFile
from .sealing import Opener, Sealer, SecretKey

__all__ = ["FileReader", "FileWriter"]

_BLOCK: Final = 1024 * 1024
_SCHEMAS: Final = {"entries": ENTRIES, "index": INDEX}


class FileWriter:
    """Makes a file of a backup. ``name`` is its whole name, that of the backup included."""

    def __init__(
        self, name: str, kind: str, region: str, key: SecretKey | None, cipher: str
    ) -> None:
        self._name, self._kind, self._region = name, kind, region
        self._blocks = BlockWriter(_SCHEMAS[kind], _metadata(name, region))
        self._sealer = None if key is None else Sealer(key, cipher, name)
        self._digest = hashlib.sha256()
        self._begun = False
        self.size = 0
        self.records = 0

    def add(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        """The bytes of some more records; of none, only what comes before the first."""
        if not records:
            return self._out(b"")
        self.records += len(records)
        return b"".join([self._out(self._blocks.block(some)) for some in _blocks(records)])

    def end(self) -> bytes:
        """The last bytes."""
        data = self._out(b"")
        return (
            data if self._sealer is None else data + self._count(self._sealer.seal(b"", last=True))
        )

    def describe(self) -> BackupFile:
        """What the manifest says of it, once it is ended."""
        return BackupFile(
            name=self._name,
            kind="index" if self._kind == "index" else "entries",
            region=self._region,
            records=self.records,
            size=self.size,
            sha256=self._digest.hexdigest(),
        )

    def _out(self, block: bytes) -> bytes:
        """A block as it is stored, behind what comes before the first."""
        head = b""
        if not self._begun:
            self._begun = True
            block = self._blocks.header + block
            head = b"" if self._sealer is None else self._sealer.header
        if self._sealer is not None and block:
            block = self._sealer.seal(block)
        return self._count(head + block)

    def _count(self, data: bytes) -> bytes:
        self.size += len(data)
        self._digest.update(data)
        return data


class FileReader:
    """Reads the file that a manifest describes. Every error is a :class:`BackupCorrupt`."""

    def __init__(self, file: BackupFile, key: SecretKey | None) -> None:
        self._file = file
        self._blocks = BlockReader(_SCHEMAS[file.kind], _metadata(file.name, file.region))
        self._opener = None if key is None else Opener(key, file.name)
        self._digest = hashlib.sha256()
        self._size = self._records = 0

    def feed(self, data: bytes) -> Iterator[list[dict[str, Any]]]:
        """The blocks of records that are whole with this piece, made one at a time."""
        self._digest.update(data)
        self._size += len(data)
        try:
            for piece in [data] if self._opener is None else self._opener.feed(data):
                for block in self._blocks.feed(piece):
                    self._records += len(block)
                    yield block
        except MalformedFile as error:
            raise BackupCorrupt(self._file.name, str(error)) from error

    def end(self) -> None:
        """Nothing more comes: it must have been the file that the manifest means."""
        file = self._file
        try:
            if self._opener is not None:
                self._opener.end()
            self._blocks.end()
        except MalformedFile as error:
            raise BackupCorrupt(file.name, str(error)) from error
        if self._size != file.size or self._digest.hexdigest() != file.sha256:
            raise BackupCorrupt(file.name, "is damaged: it has not the SHA-256 of its manifest")
        if self._records != file.records:
            raise BackupCorrupt(
                file.name, f"holds {self._records} records, and its manifest says {file.records}"
            )


def _blocks(records: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """The records in blocks that are not much larger than a limit, so that who reads them needs no
    more memory than that, or than one record.
    """
    first = size = 0
    for at, record in enumerate(records, 1):
        size += len(record.get("value", b""))
        if size >= _BLOCK:
            yield records[first:at]
            first, size = at, 0
    if first < len(records):
        yield records[first:]


def _metadata(name: str, region: str) -> Mapping[str, str]:
    """What the header of a file says, and must say: a block of one file fits in no other."""
    return {
        "clusterdb.format": str(FORMAT),
        "clusterdb.file": name,
        "clusterdb.region": region,
    }
