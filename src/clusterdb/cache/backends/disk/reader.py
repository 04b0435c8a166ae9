"""The reading connection of a cache file: point reads, scans, the log of changes, figures.

It belongs to the event loop's thread. Each statement is a snapshot of its own: it sees everything
that was committed before it began.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from ...protocols import ChangeKind, Member
from ...stats import Counters, NearFigures
from .file import CacheFile, driver_errors, translated
from .rows import AliveRow
from .schema import live

__all__ = ["ChangeRow", "Reader"]

_BUSY: Final = 100

_READ: Final = live(
    """SELECT e.version, e.deadline, e.tags, e.value
    FROM entries AS e JOIN regions AS r ON r.id = e.region
    WHERE r.name = ? AND e.key = ? AND :live"""
)

_SCAN: Final = live(
    """SELECT e.key FROM entries AS e JOIN regions AS r ON r.id = e.region
    WHERE r.name = ? AND e.key > ? AND (e.deadline IS NULL OR e.deadline > ?) AND :live
    ORDER BY e.key LIMIT ?"""
)

_EXPORT: Final = live(
    """SELECT e.key, e.version, e.deadline, e.tags, e.value
    FROM entries AS e JOIN regions AS r ON r.id = e.region
    WHERE r.name = ? AND e.key > ? AND (e.deadline IS NULL OR e.deadline > ?) AND :live
    ORDER BY e.key LIMIT ?"""
)

_CLAIMED: Final = """SELECT c.key FROM claims AS c JOIN regions AS r ON r.id = c.region
    WHERE r.name = ? AND c.key > ? ORDER BY c.key LIMIT ?"""

ChangeRow = tuple[int, ChangeKind, str, str, int, str, float, int]
"""Number, kind, region, key or tag, member, its host and process, wall time, version."""


class Reader:
    """Reads of one open file."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file
        self._connection = file.connect()
        self._connection.execute(f"PRAGMA busy_timeout = {_BUSY}")
        self._reading = threading.Lock()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, for who must close it after a fork."""
        return self._connection

    def hold(self) -> None:
        """Before a fork: wait for the statement that runs."""
        self._reading.acquire()

    def resume(self) -> None:
        """After it."""
        self._reading.release()

    @contextmanager
    def _statement(self) -> Iterator[None]:
        with self._reading, driver_errors(self._file):
            yield

    def entry(self, region: str, key: str) -> AliveRow | None:
        """The row of a key that was neither cleared nor lost a tag; it may be expired."""
        with self._reading:
            try:
                found: AliveRow | None = self._connection.execute(_READ, (region, key)).fetchone()
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise translated(self._file, error) from error
            return found

    def keys(
        self, region: str, after: str, now: float, limit: int, *, claimed: bool = False
    ) -> list[str]:
        """The next live keys of a region in their order; with those that only a claim is on."""
        with self._statement():
            found = self._connection.execute(_SCAN, (region, after, now, limit)).fetchall()
            if claimed:
                held = self._connection.execute(_CLAIMED, (region, after, limit)).fetchall()
                found = sorted({*found, *held})[:limit]
        return [key for (key,) in found]

    def entries(
        self, region: str, after: str, now: float, limit: int, size: int
    ) -> list[tuple[str, AliveRow]]:
        """The next live rows of a region in the order of their keys: ``limit`` of them, or fewer
        where they come to ``size`` bytes.
        """
        found: list[tuple[str, AliveRow]] = []
        with self._statement():
            for key, *row in self._connection.execute(_EXPORT, (region, after, now, limit)):
                found.append((key, (row[0], row[1], row[2], row[3])))
                size -= len(row[3])
                if size <= 0:
                    break
        return found

    def last_change(self) -> int:
        """The number of the last change."""
        with self._statement():
            found: int = self._connection.execute(
                "SELECT coalesce(max(seq), 0) FROM changes"
            ).fetchone()[0]
            return found

    def changes(self, after: int, limit: int) -> list[ChangeRow]:
        """The changes behind number ``after``, as far as the log still has them."""
        with self._statement():
            return self._connection.execute(
                """SELECT seq, kind, region, key, member, origin, time, version FROM changes
                WHERE seq > ? ORDER BY seq LIMIT ?""",
                (after, limit),
            ).fetchall()

    def due(self, region: str, before: float) -> bool:
        """Whether an entry of a region has a deadline before ``before``, in stored time."""
        with self._statement():
            found = self._connection.execute(
                """SELECT 1 FROM entries AS e JOIN regions AS r ON r.id = e.region
                WHERE r.name = ? AND e.deadline <= ? LIMIT 1""",
                (region, before),
            ).fetchone()
        return found is not None

    def regions(self) -> dict[str, tuple[int, int, Counters]]:
        """Items, weight and the counters of all processes so far, by region."""
        with self._statement():
            rows = self._connection.execute(
                "SELECT name, items, weight, counters FROM regions"
            ).fetchall()
        return {
            name: (items, weight, msgspec.convert(json.loads(counters), Counters))
            for name, items, weight, counters in rows
        }

    def members(self, now: float, wall: float) -> list[tuple[int, str, Member]]:
        """Number, address and description of each process that has the file open."""
        with self._statement():
            rows = self._connection.execute(
                """SELECT id, address, host, pid, program, version, started, seen,
                near_hits, near_misses, lag FROM members ORDER BY id"""
            ).fetchall()
        return [(row[0], row[1], _member(row[2:], now, wall)) for row in rows]


def _member(row: tuple[Any, ...], now: float, wall: float) -> Member:
    host, pid, program, version, started, seen, hits, misses, lag = row
    return Member(
        host=host,
        pid=pid,
        program=program,
        started=wall - (now - started),
        silent=now - seen,
        version=version,
        figures=NearFigures(near_hits=hits, near_misses=misses, lag=lag),
    )
