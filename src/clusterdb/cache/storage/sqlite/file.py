"""The file of a storage: opened safely, and its tables made or checked."""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...config import SQLite
from ...errors import ConfigError, StorageUnavailable
from .. import migrations
from .faults import driver_errors
from .statements import Rows

__all__ = ["StorageFile", "transaction"]


class StorageFile:
    """One file, which may be another program's own database too."""

    def __init__(self, config: SQLite, rows: Rows) -> None:
        self.path = Path(config.path).expanduser().absolute()
        self.timeout = config.timeout
        self.names = rows.names
        self._rows = rows
        self._create = config.create

    def connect(self, *, create: bool | None = None) -> sqlite3.Connection:
        """A connection in autocommit mode, for one thread at a time. ``create``: whether the file
        may be made, else as the configuration says.
        """
        with driver_errors(self.path, self.timeout):
            self._make(self._create if create is None else create)
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=rw",
                uri=True,
                timeout=self.timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA synchronous = FULL")
                self._use_log(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _make(self, create: bool) -> None:
        """Make the file, for its owner only. An empty one is a database without tables."""
        if self.path.exists():
            return
        if not create:
            raise ConfigError(
                f"storage file {str(self.path)!r} is not there and may not be made "
                f"(create: false): make it with 'cache storage init'",
                path="backend.path",
            )
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise StorageUnavailable(
                f"storage file {str(self.path)!r} can't be made: {error.strerror}"
            ) from error

    def _use_log(self, connection: sqlite3.Connection) -> None:
        """Readers and the writer don't wait for each other then. Two who ask for it at once refuse
        each other, without waiting as elsewhere.
        """
        end = time.monotonic() + self.timeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > end:
                    raise
                time.sleep(random.uniform(0.001, 0.01))
            else:
                return

    # -- tables

    def prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables where they are missing and may be made, and check them. Raises
        :class:`ConfigError`.
        """
        with driver_errors(self.path, self.timeout):
            needs_more = bool(self._rows.tables())
            made = needs_more and bool(self._columns(connection, "_meta"))
            if made:
                self._check_form(self._form(connection))
            found = self._columns(connection, "")
            wrong = self._rows.check(found, connection)
            if wrong and (found or not self._rows.makes_table):
                raise self._refused(f"{wrong}: name another, or mend it")
            if made or not needs_more:
                return
            if not self._create:
                raise self._refused(
                    "needs tables that are missing and may not be made (create: false): "
                    "'cache storage init' makes them"
                )
            self.init(connection, with_triggers=False)

    def init(self, connection: sqlite3.Connection, *, with_triggers: bool) -> None:
        """Make what is missing, and what is of an older form into ours."""
        with driver_errors(self.path, self.timeout), transaction(connection):
            steps = self._steps(connection)
            for statement in [*steps, *self.statements(with_triggers=with_triggers)]:
                connection.execute(statement)

    def _steps(self, connection: sqlite3.Connection) -> list[str]:
        """What makes tables of an older form into such of ours."""
        if not self._rows.tables() or not self._columns(connection, "_meta"):
            return []
        version, steps = self._form(connection), migrations.SQLITE
        if version is None:
            return []
        if version > migrations.newest(steps):
            self._check_form(version)
        return migrations.ahead(steps, version, self.names, own=self._rows.makes_table)

    def _form(self, connection: sqlite3.Connection) -> int | None:
        """The form of the tables; none where that is not there any more."""
        found = connection.execute(f"SELECT schema_version FROM {self.names.meta}").fetchone()
        return None if found is None else int(found[0])

    def _check_form(self, found: int | None) -> None:
        wrong = migrations.unusable(migrations.SQLITE, found)
        if wrong:
            raise self._refused(wrong)

    def statements(self, *, with_triggers: bool) -> list[str]:
        """What :meth:`init` does."""
        return [*self._rows.tables(), *(self._rows.triggers() if with_triggers else [])]

    def _columns(self, connection: sqlite3.Connection, end: str) -> dict[str, str]:
        """The columns of a table with their types; none where there is no table."""
        found = connection.execute(f"PRAGMA table_info({self.names.local(end)})").fetchall()
        return {row[1]: row[2] for row in found}

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(
            f"table {self.names.text!r} of storage file {str(self.path)!r} {why}",
            path="backend.table",
        )


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all that is written inside, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
