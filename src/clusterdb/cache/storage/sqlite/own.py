"""Rows in a table of the storage's own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from ...codec import Encoded
from ...errors import CacheError
from ...rows import Row, RowChange, StorageCapability
from ...types import MISSING
from ..judging import ABSENT, Held
from ..names import Names
from .parameters import padded
from .schema import COLUMNS, outbox_tables, tables, triggers

__all__ = ["OwnRows"]

_LIVE: Final = "deleted = 0 AND (expires_at IS NULL OR expires_at > :now)"
_ROW: Final = "key, value, codec, flags, row_version, expires_at, tags"


class OwnRows:
    """The statements of such a table."""

    capabilities: frozenset[StorageCapability] = frozenset(
        {"conditions", "versions", "atomic", "changes", "expiry", "tags"}
    )

    def __init__(self, names: Names) -> None:
        self.names = names
        self.makes_table = True

    def tables(self) -> list[str]:
        """The statements that make the tables where they are missing."""
        return [*tables(self.names), *outbox_tables(self.names)]

    def triggers(self) -> list[str]:
        """The statements that make the triggers anew."""
        return triggers(self.names)

    def check(self, columns: dict[str, str], connection: sqlite3.Connection) -> str:
        """What is wrong with a table of such columns."""
        del connection
        missing = [name for name in COLUMNS if name not in columns]
        return f"has no column {missing[0]!r}: it is another program's" if missing else ""

    def refusal(self, change: RowChange) -> CacheError | None:
        """Why a change can't be made, whatever the table has: nothing is."""
        del change
        return None

    def find(
        self, connection: sqlite3.Connection, region: str, keys: Sequence[str], now: float
    ) -> list[Row]:
        """The live rows of keys."""
        asked = padded(keys)
        found = connection.execute(
            f"SELECT {_ROW} FROM {self.names.table} "
            f"WHERE region = ? AND key IN ({', '.join('?' * len(asked))}) "
            f"AND deleted = 0 AND (expires_at IS NULL OR expires_at > ?)",
            (region, *asked, now),
        )
        return [_row(row, now) for row in found]

    def page(
        self, connection: sqlite3.Connection, region: str, after: str, limit: int, now: float
    ) -> list[Row]:
        """The next live rows of a region, by key."""
        found = connection.execute(
            f"SELECT {_ROW} FROM {self.names.table} "
            f"WHERE region = :region AND key > :after AND {_LIVE} ORDER BY key LIMIT :limit",
            {"region": region, "after": after, "limit": limit, "now": now},
        ).fetchall()
        return [_row(row, now) for row in found]

    def held(self, connection: sqlite3.Connection, change: RowChange, now: float) -> Held:
        """What is under a key."""
        found = connection.execute(
            f"SELECT row_version, {_LIVE}, expires_at FROM {self.names.table} "
            f"WHERE region = :region AND key = :key",
            {"region": change.region, "key": change.key, "now": now},
        ).fetchone()
        return ABSENT if found is None else Held(found[0], bool(found[1]), found[2])

    def put(
        self,
        connection: sqlite3.Connection,
        change: RowChange,
        version: int,
        expires_at: object,
        now: float,
    ) -> None:
        """Write a row, or make it a deleted one."""
        gone = change.value is MISSING
        encoded: Encoded = Encoded(b"", 0) if gone else change.value
        connection.execute(
            f"""INSERT INTO {self.names.table} (region, key, value, codec, flags, row_version,
                expires_at, tags, created_at, updated_at, deleted)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (region, key) DO UPDATE SET value = excluded.value, codec = excluded.codec,
                flags = excluded.flags, row_version = excluded.row_version,
                expires_at = excluded.expires_at, tags = excluded.tags,
                created_at = CASE WHEN deleted THEN excluded.created_at ELSE created_at END,
                updated_at = excluded.updated_at, deleted = excluded.deleted""",
            (
                change.region,
                change.key,
                None if gone else encoded.payload,
                encoded.codec,
                encoded.flags,
                version,
                None if gone else expires_at,
                json.dumps(() if gone else change.tags, ensure_ascii=False),
                now,
                now,
                int(gone),
            ),
        )

    def prune(self, connection: sqlite3.Connection, before: float) -> int:
        """Forget rows that were deleted, or expired, before a moment."""
        deleted = connection.execute(
            f"DELETE FROM {self.names.table} WHERE deleted <> 0 AND updated_at < ?", (before,)
        ).rowcount
        expired = connection.execute(
            f"DELETE FROM {self.names.table} WHERE expires_at < ?", (before,)
        ).rowcount
        return deleted + expired

    def figures(self, connection: sqlite3.Connection, now: float) -> tuple[int, int | None]:
        """Live rows and deleted rows."""
        found: tuple[int, int] = connection.execute(
            f"SELECT count(*) FILTER (WHERE {_LIVE}), count(*) FILTER (WHERE deleted <> 0) "
            f"FROM {self.names.table}",
            {"now": now},
        ).fetchone()
        return found


def _row(found: tuple[Any, ...], now: float) -> Row:
    key, value, codec, flags, version, expires_at, tags = found
    payload = value.encode() if isinstance(value, str) else bytes(value or b"")
    return Row(
        key,
        Encoded(payload, codec, flags),
        version,
        None if expires_at is None else expires_at - now,
        tuple(json.loads(tags)),
    )
