"""Rows in a table of the user's own, with its own columns."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from ...config import RowMapping
from ...errors import CacheError, RowRefused
from ...rows import Row, RowChange, StorageCapability
from ...types import MISSING
from ..judging import ABSENT, Held
from ..mapping import Mapped
from ..names import Names, quoted
from .outbox import Outbox
from .parameters import padded
from .schema import mapped_triggers, outbox_tables

__all__ = ["MappedRows"]

_AS_TEXT = (dt.date, dt.time, UUID, Decimal)


class MappedRows:
    """The statements of such a table. Its rows are really deleted; what version one had, the
    outbox says as long as it is kept.
    """

    def __init__(self, names: Names, config: RowMapping, outbox: Outbox) -> None:
        self.names = names
        self.makes_table = False
        self._mapped = Mapped(config)
        self._outbox = outbox
        self._key = quoted(config.key_column)
        self._version = config.version_column and quoted(config.version_column)
        self._expires = config.expires_column and quoted(config.expires_column)
        columns = [quoted(name) for name in self._mapped.columns]
        version = f"coalesce({self._version}, 1)" if self._version else "0"
        self._row = ", ".join([self._key, *columns, version, self._expires or "NULL"])
        own = [each for each in (self._version, self._expires) if each]
        self._written = [*columns, *own]
        self._live = (
            f"({self._expires} IS NULL OR {self._expires} > :now)" if self._expires else "1"
        )

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """What such a table can do."""
        return self._mapped.capabilities

    def tables(self) -> list[str]:
        """The statements that make the outbox; the table is the user's."""
        if self._version is None:
            return []
        index = f"{self.names.of('_outbox_key')} ON {self.names.local('_outbox')}"
        return [
            *outbox_tables(self.names),
            f"CREATE INDEX IF NOT EXISTS {index} (region, key)",
        ]

    def triggers(self) -> list[str]:
        """The statements that make the triggers anew."""
        return [] if self._version is None else mapped_triggers(self.names, self._mapped.config)

    def check(self, columns: dict[str, str], connection: sqlite3.Connection) -> str:
        """What is wrong with a table of such columns."""
        config = self._mapped.config
        own = [name for name in (config.version_column, config.expires_column) if name]
        for name in (config.key_column, *config.columns, *own):
            if name not in columns:
                return f"has no column {name!r}" if columns else "is not there"
        self._mapped.kind = "integer" if "INT" in columns[config.key_column].upper() else "text"
        if not self._is_unique(connection, config.key_column):
            return f"has a key_column {config.key_column!r} that is not unique"
        version = config.version_column
        if version and "INT" not in columns[version].upper():
            return f"has a version_column {version!r} that is not INTEGER"
        return ""

    def _is_unique(self, connection: sqlite3.Connection, column: str) -> bool:
        """Whether an index tells all texts apart; one without case takes two keys for one."""
        table = self.names.local("")
        info = connection.execute(f"PRAGMA table_info({table})").fetchall()
        if self._mapped.kind == "integer" and [row[1] for row in info if row[5]] == [column]:
            return True
        for _, index, unique, _, partial in connection.execute(f"PRAGMA index_list({table})"):
            found = connection.execute(
                "SELECT name, coll FROM pragma_index_xinfo(?) WHERE key", (index,)
            ).fetchall()
            if unique and not partial and found == [(column, "BINARY")]:
                return True
        return False

    def refusal(self, change: RowChange) -> CacheError | None:
        """Why a change can't be made, whatever the table has."""
        return self._mapped.refusal(change)

    def find(
        self, connection: sqlite3.Connection, region: str, keys: Sequence[str], now: float
    ) -> list[Row]:
        """The live rows of keys."""
        self._mapped.check_region(region)
        stored = [each for key in keys if (each := self._mapped.stored(key)) is not None]
        if not stored:
            return []
        asked = padded(stored)
        live = f"({self._expires} IS NULL OR {self._expires} > ?)" if self._expires else "? > 0"
        found = connection.execute(
            f"SELECT {self._row} FROM {self.names.table} "
            f"WHERE {self._key} IN ({', '.join('?' * len(asked))}) AND {live}",
            (*asked, now),
        )
        return [self._made(row, now) for row in found]

    def page(
        self, connection: sqlite3.Connection, region: str, after: str, limit: int, now: float
    ) -> list[Row]:
        """The next live rows, in the order of the key column."""
        self._mapped.check_region(region)
        stored = self._mapped.stored(after) if after else None
        found = connection.execute(
            f"SELECT {self._row} FROM {self.names.table} "
            f"WHERE (:after IS NULL OR {self._key} > :after) AND {self._live} "
            f"ORDER BY {self._key} LIMIT :limit",
            {"after": stored, "limit": limit, "now": now},
        ).fetchall()
        return [self._made(row, now) for row in found]

    def _made(self, found: tuple[Any, ...], now: float) -> Row:
        *contents, version, expires_at = found
        ttl = None if expires_at is None else expires_at - now
        return Row(self._mapped.key(found[0]), self._mapped.value(contents), version, ttl)

    def held(self, connection: sqlite3.Connection, change: RowChange, now: float) -> Held:
        """What is under a key."""
        version = f"coalesce({self._version}, 1)" if self._version else "0"
        found = connection.execute(
            f"SELECT {version}, {self._live}, {self._expires or 'NULL'} FROM {self.names.table} "
            f"WHERE {self._key} = :key",
            {"key": self._mapped.stored(change.key), "now": now},
        ).fetchone()
        if found is not None:
            return Held(found[0], bool(found[1]), found[2])
        if self._version is None:
            return ABSENT
        return Held(self._outbox.last_version(connection, change.region, change.key), False)

    def put(
        self,
        connection: sqlite3.Connection,
        change: RowChange,
        version: int,
        expires_at: object,
        now: float,
    ) -> None:
        """Write a row, or delete it."""
        del now
        table, stored = self.names.table, self._mapped.stored(change.key)
        if change.value is MISSING:
            connection.execute(f"DELETE FROM {table} WHERE {self._key} = ?", (stored,))
            return
        contents = [_bound(change.key, each) for each in self._mapped.contents(change)]
        contents += [version] if self._version else []
        contents += [expires_at] if self._expires else []
        changed = (
            ", ".join([f"{name} = ?" for name in self._written]) or f"{self._key} = {self._key}"
        )
        done = connection.execute(
            f"UPDATE {table} SET {changed} WHERE {self._key} = ?", (*contents, stored)
        )
        if not done.rowcount:
            names = ", ".join([self._key, *self._written])
            marks = ", ".join(["?"] * (len(contents) + 1))
            connection.execute(
                f"INSERT INTO {table} ({names}) VALUES ({marks})", (stored, *contents)
            )

    def prune(self, connection: sqlite3.Connection, before: float) -> int:
        """Nothing: the rows are the user's."""
        del connection, before
        return 0

    def figures(self, connection: sqlite3.Connection, now: float) -> tuple[int, int | None]:
        """Live rows; deleted ones are gone."""
        [found] = connection.execute(
            f"SELECT count(*) FROM {self.names.table} WHERE {self._live}", {"now": now}
        ).fetchone()
        return found, None


def _bound(key: str, value: Any) -> Any:
    """A value as SQLite takes it."""
    if isinstance(value, _AS_TEXT):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    if value is None or isinstance(value, (str, bytes, int, float)):
        return value
    raise RowRefused(
        key, "mapping", f"SQLite has no column for a {type(value).__qualname__}; store its text"
    )
