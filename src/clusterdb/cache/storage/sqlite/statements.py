"""What is read and written in one connection: rows and outbox. Runs in the lanes' threads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, Protocol

from ...errors import CacheError, NotSupported, RowRefused
from ...rows import Row, RowChange, RowChanged, RowWritten, StorageCapability
from ...types import MISSING
from ..judging import Held, judge
from ..names import Names
from .faults import refusal
from .outbox import Outbox

__all__ = ["Rows", "Statements"]

_AT_ONCE: Final = 256


class Rows(Protocol):
    """The rows of one kind of table. Moments are seconds since the Unix epoch. ``makes_table``:
    the table is the storage's, not the user's.
    """

    names: Names
    makes_table: bool

    @property
    def capabilities(self) -> frozenset[StorageCapability]: ...
    def tables(self) -> list[str]: ...
    def triggers(self) -> list[str]: ...
    def check(self, columns: dict[str, str], connection: sqlite3.Connection) -> str: ...
    def refusal(self, change: RowChange) -> CacheError | None: ...
    def find(
        self, connection: sqlite3.Connection, region: str, keys: Sequence[str], now: float
    ) -> list[Row]: ...
    def page(
        self, connection: sqlite3.Connection, region: str, after: str, limit: int, now: float
    ) -> list[Row]: ...
    def held(self, connection: sqlite3.Connection, change: RowChange, now: float) -> Held: ...
    def put(
        self,
        connection: sqlite3.Connection,
        change: RowChange,
        version: int,
        expires_at: object,
        now: float,
    ) -> None: ...
    def prune(self, connection: sqlite3.Connection, before: float) -> int: ...
    def figures(self, connection: sqlite3.Connection, now: float) -> tuple[int, int | None]: ...


class Statements:
    """The statements of one storage."""

    def __init__(self, rows: Rows, outbox: Outbox) -> None:
        self._rows = rows
        self._outbox = outbox
        self._tells = "changes" in rows.capabilities

    # -- rows

    def read(
        self, connection: sqlite3.Connection, region: str, keys: Sequence[str], now: float
    ) -> list[Row | None]:
        """The live rows of keys, of one moment."""
        found: dict[str, Row] = {}
        connection.execute("BEGIN")
        try:
            for start in range(0, len(keys), _AT_ONCE):
                part = self._rows.find(connection, region, keys[start : start + _AT_ONCE], now)
                found.update([(row.key, row) for row in part])
        finally:
            connection.execute("ROLLBACK")
        return [found.get(key) for key in keys]

    def page(
        self, connection: sqlite3.Connection, region: str, after: str, limit: int, now: float
    ) -> list[Row]:
        """The next live rows of a region, by key."""
        return self._rows.page(connection, region, after, limit, now)

    def write(
        self,
        connection: sqlite3.Connection,
        changes: Sequence[RowChange],
        atomic: bool,
        now: float,
    ) -> tuple[list[RowWritten | CacheError], bool]:
        """Make changes in the transaction that was begun. Their outcomes, and whether there is
        something to commit: all or none where ``atomic``.
        """
        before: list[int] = []
        outcomes: list[RowWritten | CacheError] = []
        for change in changes:
            refused = self._rows.refusal(change)
            if refused is not None:
                before.append(0)
                outcomes.append(refused)
                continue
            held = self._rows.held(connection, change, now)
            before.append(held.version)
            outcomes.append(self._make(connection, change, held, now))
        if not atomic or all(isinstance(it, RowWritten) and it.applied for it in outcomes):
            return outcomes, True
        undone = [
            RowWritten(applied=False, version=version)
            if isinstance(outcome, RowWritten)
            else outcome
            for outcome, version in zip(outcomes, before, strict=True)
        ]
        return undone, False

    def _make(
        self, connection: sqlite3.Connection, change: RowChange, held: Held, now: float
    ) -> RowWritten | CacheError:
        verdict = judge(change, held)
        if not verdict.writes:
            return verdict.written
        version = verdict.written.version
        deadline = None if change.ttl is None else now + change.ttl
        expires_at = held.expiry if change.keep_ttl and held.live else deadline
        line = 0
        try:
            if self._tells:  # first: the triggers know us by it
                line = self._outbox.tell(connection, change.region, change.key, version, now)
            self._rows.put(connection, change, version, expires_at, now)
        except (sqlite3.Error, OverflowError, RowRefused) as error:
            refused = error if isinstance(error, RowRefused) else refusal(change.key, error)
            if refused is None:
                raise
            if refused is not error:
                refused.__cause__ = error
            if line:
                self._outbox.take_back(connection, line)
            return refused
        return verdict.written if self._tells else RowWritten(verdict.written.applied, 0)

    def clear(self, connection: sqlite3.Connection, regions: Sequence[str], now: float) -> int:
        """Delete the live rows of regions, in the transaction that was begun."""
        count = 0
        for region in regions:
            while rows := self._rows.page(connection, region, "", 500, now):
                for row in rows:
                    gone = RowChange(region, row.key, MISSING)
                    outcome = self._make(connection, gone, Held(row.version, True), now)
                    if isinstance(outcome, CacheError):  # as where another table refers to it
                        raise outcome
                count += len(rows)
        return count

    # -- the outbox

    def _told(self) -> Outbox:
        if not self._tells:
            raise NotSupported(
                f"table {self._rows.names.text!r} tells of no changes: name its rows.version_column"
            )
        return self._outbox

    def position(self, connection: sqlite3.Connection) -> str:
        """Where the outbox ends."""
        return self._told().position(connection)

    def changes(
        self, connection: sqlite3.Connection, after: str, limit: int
    ) -> tuple[list[RowChanged], str]:
        """The outbox behind a position."""
        return self._told().changes(connection, after, limit)

    def prune(self, connection: sqlite3.Connection, before: float) -> int:
        """Forget what is from before a moment, in the transaction that was begun."""
        lines = self._outbox.prune(connection, before) if self._tells else 0
        return lines + self._rows.prune(connection, before)

    def figures(
        self, connection: sqlite3.Connection, now: float
    ) -> tuple[int, int | None, int | None]:
        """Live rows, deleted rows and lines of the outbox."""
        rows, deleted = self._rows.figures(connection, now)
        return rows, deleted, self._outbox.size(connection) if self._tells else None
