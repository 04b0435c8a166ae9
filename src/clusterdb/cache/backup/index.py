"""What was there at the time of a backup: a hash, a version and a fingerprint for each entry.

It answers both questions of a chain of backups. Making one: is this entry in the chain already, as
it is? Restoring one: which of the versions that the chain holds is the one that was there then? An
entry that is in no index is gone, so nothing that was deleted comes back, and no list of deletions
is needed.

The fingerprint is there because versions of a memory backend start anew with each process: an entry
is the same one if version and content are.

It lives in a temporary SQLite database with a cache of fixed size, so that memory does not grow
with the number of entries. Its file has no name, so nothing of it is left behind, even by a process
that is killed. Rows are appended as they come and sorted once at the end by SQLite's
external sort. Rejected: a set in memory (some 100 bytes an entry), and partitions by hash (a second
pass over the entries, or all their values spilled).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from threading import Lock
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from ..errors import BackupUnavailable
from ..types import Version

__all__ = ["Index", "IndexRow", "key_hash", "row_of"]

_CACHE_KIB: Final = 4 * 1024
_AT_ONCE: Final = 500
_FETCH: Final = 5_000
_SAME_EXPIRY: Final = 2.0
"""Deadlines that differ by so many seconds were read off the same entry at different times."""

_PRESENT: Final = (
    "CREATE TABLE present "
    "(hash BLOB, version INTEGER, content BLOB, expires_at REAL, sequence INTEGER, was INTEGER)"
)
_KNOWN: Final = (
    "CREATE TABLE known (hash BLOB PRIMARY KEY, version INTEGER, content BLOB, expires_at REAL, "
    "sequence INTEGER) WITHOUT ROWID"
)


class IndexRow(msgspec.Struct, frozen=True, gc=False):
    """An entry in an index. ``sequence`` is that of the backup which holds it."""

    hash: bytes
    version: Version
    content: bytes
    expires_at: float | None
    sequence: int

    def same(self, other: IndexRow) -> bool:
        """Whether both are of the same entry with the same expiry."""
        if self.version != other.version or self.content != other.content:
            return False
        if self.expires_at is None or other.expires_at is None:
            return self.expires_at is other.expires_at
        return abs(self.expires_at - other.expires_at) <= _SAME_EXPIRY


def key_hash(region: str, key: str) -> bytes:
    """What stands for a key: regions and keys that differ have different ones."""
    name = region.encode()
    return hashlib.blake2b(
        b"".join([len(name).to_bytes(4, "big"), name, key.encode()]), digest_size=16
    ).digest()


def row_of(region: str, record: Mapping[str, Any], sequence: int) -> IndexRow:
    """The row of a record of entries."""
    content = hashlib.blake2b(record["value"], digest_size=8)
    for tag in record["tags"]:
        content.update(b"\0" + tag.encode())
    return IndexRow(
        key_hash(region, record["key"]),
        record["version"],
        content.digest(),
        record["expires_at"],
        sequence,
    )


_FIELDS: Final = IndexRow.__struct_fields__


class Index:
    """The index of the backup before (``known``) and that of the one that is being made. Safe to
    use from several threads.
    """

    def __init__(self) -> None:
        self.gone = 0
        self._lock = Lock()
        self._opened: sqlite3.Connection | None = None

    @property
    def _db(self) -> sqlite3.Connection:
        """The database, made at its first use; the lock is held."""
        if self._opened is None:
            self._opened = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
                self._opened.execute(f"PRAGMA {pragma}")
            for table in (_KNOWN, _PRESENT):
                self._opened.execute(table)
            self._opened.execute("BEGIN")
        return self._opened

    def close(self) -> None:
        """Remove it, once nobody works with it."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()

    def learn(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Know some rows of the backup before."""
        rows = [[record[name] for name in _FIELDS] for record in records]
        with self._lock, _disk():
            self._db.executemany("INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?, ?)", rows)

    def find(self, hashes: Sequence[bytes]) -> dict[bytes, IndexRow]:
        """The known rows of some hashes."""
        found = {}
        for at in range(0, len(hashes), _AT_ONCE):
            some = hashes[at : at + _AT_ONCE]
            marks = ",".join("?" * len(some))
            with self._lock, _disk():
                rows = self._db.execute(
                    f"SELECT * FROM known WHERE hash IN ({marks})",  # noqa: S608 - marks only
                    some,
                ).fetchall()
            for row in rows:
                found[row[0]] = IndexRow(*row)
        return found

    def add(self, rows: Sequence[IndexRow], known: Container[bytes] = ()) -> None:
        """These are there now; the hashes in ``known`` are known, and so are not gone."""
        values = [(*astuple(row), row.hash in known) for row in rows]
        with self._lock, _disk():
            self._db.executemany("INSERT INTO present VALUES (?, ?, ?, ?, ?, ?)", values)

    def rows(self) -> Iterator[IndexRow]:
        """What is there now, in order, each once: of one that was given twice the later version.
        Afterwards ``gone`` is how many known rows were not among them.
        """
        with self._lock, _disk():
            [(left,)] = self._db.execute("SELECT count(*) FROM known").fetchall()
        last: Sequence[Any] | None = None
        for values in self._sorted("SELECT * FROM present ORDER BY hash, version"):
            if last is not None and last[0] != values[0]:
                left -= last[-1]
                yield IndexRow(*last[:-1])
            last = values
        if last is not None:
            left -= last[-1]
            yield IndexRow(*last[:-1])
        self.gone = left

    def _sorted(self, query: str) -> Iterator[Any]:
        """The rows of a query. The database is free for others between some and the next."""
        with self._lock, _disk():
            cursor = self._db.execute(query)
        with closing(cursor):
            while True:
                with self._lock, _disk():
                    rows = cursor.fetchmany(_FETCH)
                if not rows:
                    return
                yield from rows


@contextmanager
def _disk() -> Iterator[None]:
    """The database is a temporary file: what fails is its disk."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise BackupUnavailable(
            f"the temporary index of a backup can't be kept: {error}; see that there is space for "
            f"some 60 bytes an entry in the directory for temporary files (TMPDIR)"
        ) from error
