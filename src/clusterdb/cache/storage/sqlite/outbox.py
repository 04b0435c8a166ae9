"""The outbox of a storage in SQLite: a line for each change, in the order of the commits."""

from __future__ import annotations

import sqlite3

from ...errors import ChangesLost
from ...rows import RowChanged
from ..names import Names

__all__ = ["Outbox"]


class Outbox:
    """The outbox beside a table. ``origin`` is what its lines say of who wrote."""

    def __init__(self, names: Names, origin: str) -> None:
        self._names = names
        self._origin = origin

    def tell(
        self, connection: sqlite3.Connection, region: str, key: str, version: int, now: float
    ) -> int:
        """Write a line; its number."""
        written = connection.execute(
            f"INSERT INTO {self._names.outbox} "
            f"(region, key, row_version, origin, changed_at) VALUES (?, ?, ?, ?, ?)",
            (region, key, version, self._origin, now),
        )
        return written.lastrowid or 0

    def take_back(self, connection: sqlite3.Connection, line: int) -> None:
        """Remove a line that was written in this transaction."""
        connection.execute(f"DELETE FROM {self._names.outbox} WHERE id = ?", (line,))

    def last_version(self, connection: sqlite3.Connection, region: str, key: str) -> int:
        """The last version of a key that is told of; 0 where none is."""
        [found] = connection.execute(
            f"SELECT coalesce(max(row_version), 0) FROM {self._names.outbox} "
            f"WHERE region = ? AND key = ?",
            (region, key),
        ).fetchone()
        return int(found)

    def position(self, connection: sqlite3.Connection) -> str:
        """Where it ends."""
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
        """The lines behind a position."""
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
        """Forget lines from before a moment, in the transaction that was begun."""
        names = self._names
        connection.execute(
            f"UPDATE {names.meta} SET horizon = max(horizon, coalesce((SELECT max(id) "
            f"FROM {names.outbox} WHERE changed_at < ?), 0))",
            (before,),
        )
        return connection.execute(
            f"DELETE FROM {names.outbox} WHERE id <= (SELECT horizon FROM {names.meta})"
        ).rowcount

    def size(self, connection: sqlite3.Connection) -> int:
        """How many lines it has."""
        [found] = connection.execute(f"SELECT count(*) FROM {self._names.outbox}").fetchone()
        return int(found)


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
