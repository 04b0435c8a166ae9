"""What is read and written in one connection: rows, outbox, horizon. Runs in the lanes' threads."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from ...codec import Encoded
from ...errors import CacheError, ChangesLost
from ...rows import Row, RowChange, RowChanged, RowWritten
from ...types import MISSING
from ..judging import ABSENT, Held, judge
from ..names import Names
from .faults import refusal

__all__ = ["Statements"]

_LIVE: Final = "deleted = 0 AND (expires_at IS NULL OR expires_at > :now)"


class Statements:
    """The statements of one storage. ``origin`` is what its outbox rows say of who wrote."""

    def __init__(self, names: Names, origin: str) -> None:
        self._names = names
        self._origin = origin

    # -- rows

    def read(
        self, connection: sqlite3.Connection, region: str, keys: Sequence[str], now: float
    ) -> list[Row | None]:
        """The live rows of keys, of one moment."""
        statement = (
            f"SELECT key, value, codec, flags, row_version, expires_at, tags "
            f"FROM {self._names.table} WHERE region = :region AND key = :key AND {_LIVE}"
        )
        connection.execute("BEGIN")
        try:
            found = [
                connection.execute(statement, {"region": region, "key": key, "now": now}).fetchone()
                for key in keys
            ]
        finally:
            connection.execute("ROLLBACK")
        return [None if row is None else _row(row, now) for row in found]

    def page(
        self, connection: sqlite3.Connection, region: str, after: str, limit: int, now: float
    ) -> list[Row]:
        """The next live rows of a region, by key."""
        found = connection.execute(
            f"SELECT key, value, codec, flags, row_version, expires_at, tags "
            f"FROM {self._names.table} WHERE region = :region AND key > :after AND {_LIVE} "
            f"ORDER BY key LIMIT :limit",
            {"region": region, "after": after, "limit": limit, "now": now},
        ).fetchall()
        return [_row(row, now) for row in found]

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
            held = self._held(connection, change, now)
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

    def _held(self, connection: sqlite3.Connection, change: RowChange, now: float) -> Held:
        found = connection.execute(
            f"SELECT row_version, {_LIVE}, expires_at FROM {self._names.table} "
            f"WHERE region = :region AND key = :key",
            {"region": change.region, "key": change.key, "now": now},
        ).fetchone()
        return ABSENT if found is None else Held(found[0], bool(found[1]), found[2])

    def _make(
        self, connection: sqlite3.Connection, change: RowChange, held: Held, now: float
    ) -> RowWritten | CacheError:
        verdict = judge(change, held)
        if not verdict.writes:
            return verdict.written
        expires_at = held.expiry if change.keep_ttl and held.live else _deadline(change, now)
        line = 0
        try:
            line = self._tell(connection, change, verdict.written.version, now)
            self._put(connection, change, verdict.written.version, expires_at, now)
        except (sqlite3.Error, OverflowError) as error:
            refused = refusal(change.key, error)
            if refused is None:
                raise
            refused.__cause__ = error
            connection.execute(
                f"DELETE FROM {self._names.outbox} WHERE id = ?",
                (line,),
            )
            return refused
        return verdict.written

    def _put(
        self,
        connection: sqlite3.Connection,
        change: RowChange,
        version: int,
        expires_at: object,
        now: float,
    ) -> None:
        gone = change.value is MISSING
        encoded: Encoded = Encoded(b"", 0) if gone else change.value
        connection.execute(
            f"""INSERT INTO {self._names.table} (region, key, value, codec, flags, row_version,
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

    def _tell(
        self, connection: sqlite3.Connection, change: RowChange, version: int, now: float
    ) -> int:
        """Write a line of the outbox; its number."""
        written = connection.execute(
            f"INSERT INTO {self._names.outbox} "
            f"(region, key, row_version, origin, changed_at) VALUES (?, ?, ?, ?, ?)",
            (change.region, change.key, version, self._origin, now),
        )
        return written.lastrowid or 0

    def clear(self, connection: sqlite3.Connection, regions: Sequence[str], now: float) -> int:
        """Delete the live rows of regions, in the transaction that was begun."""
        count = 0
        for region in regions:
            while True:
                rows = self.page(connection, region, "", 500, now)
                for row in rows:
                    gone = RowChange(region, row.key, MISSING)
                    self._make(connection, gone, Held(row.version, True), now)
                count += len(rows)
                if not rows:
                    break
        return count

    # -- the outbox

    def position(self, connection: sqlite3.Connection) -> str:
        """Where the outbox ends."""
        generation, _, end = self._ends(connection)
        return f"{generation}:{end}"

    def _ends(self, connection: sqlite3.Connection) -> tuple[str, int, int]:
        """Generation, horizon and the number of the last line that ever was."""
        found: tuple[str, int, int] = connection.execute(
            f"SELECT generation, horizon, max(horizon, coalesce("
            f"(SELECT max(id) FROM {self._names.outbox}), 0)) FROM {self._names.meta}"
        ).fetchone()
        return found

    def changes(
        self, connection: sqlite3.Connection, after: str, limit: int
    ) -> tuple[list[RowChanged], str]:
        """The outbox behind a position."""
        connection.execute("BEGIN")
        try:
            generation, horizon, end = self._ends(connection)
            start = _start(after, generation, horizon, end)
            found = connection.execute(
                f"SELECT id, region, key, row_version, origin, changed_at "
                f"FROM {self._names.outbox} WHERE id > ? ORDER BY id LIMIT ?",
                (start, limit),
            ).fetchall()
        finally:
            connection.execute("ROLLBACK")
        last = found[-1][0] if found else start
        return [RowChanged(*row[1:]) for row in found], f"{generation}:{last}"

    def prune(self, connection: sqlite3.Connection, before: float) -> int:
        """Forget deleted and expired rows and outbox lines from before a moment, in the
        transaction that was begun.
        """
        names, moment = self._names, {"before": before}
        connection.execute(
            f"UPDATE {names.meta} SET horizon = max(horizon, coalesce((SELECT max(id) "
            f"FROM {names.outbox} WHERE changed_at < :before), 0))",
            moment,
        )
        lines = connection.execute(
            f"DELETE FROM {names.outbox} WHERE id <= (SELECT horizon FROM {names.meta})"
        ).rowcount
        rows = connection.execute(
            f"DELETE FROM {names.table} WHERE deleted <> 0 AND updated_at < :before",
            moment,
        ).rowcount
        expired = connection.execute(
            f"DELETE FROM {names.table} WHERE expires_at < :before",
            moment,
        ).rowcount
        return int(lines + rows + expired)

    def figures(self, connection: sqlite3.Connection, now: float) -> tuple[int, int, int]:
        """Live rows, deleted rows and lines of the outbox."""
        found: tuple[int, int, int] = connection.execute(
            f"SELECT count(*) FILTER (WHERE {_LIVE}), count(*) FILTER (WHERE deleted <> 0), "
            f"(SELECT count(*) FROM {self._names.outbox}) FROM {self._names.table}",
            {"now": now},
        ).fetchone()
        return found


def _start(after: str, generation: str, horizon: int, end: int) -> int:
    """The number a position stands for. Raises :class:`ChangesLost` for one that can't be gone on
    from.
    """
    of, _, number = after.rpartition(":")
    if of != generation or not number.isdecimal():
        raise ChangesLost(f"position {after!r} is not one of this database: it was made anew")
    start = int(number)
    if start < horizon:
        raise ChangesLost(
            f"changes from {start + 1} to {horizon} are no longer kept: what was cached before "
            f"has to go; prune less, or read them more often"
        )
    if start > end:
        raise ChangesLost(
            f"position {start} is behind the last change, {end}: the database was set back"
        )
    return start


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


def _deadline(change: RowChange, now: float) -> float | None:
    return None if change.ttl is None else now + change.ttl
