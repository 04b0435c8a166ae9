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
from .faults import driver_errors
from .schema import SCHEMA_VERSION
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
            found = self._columns(connection, "")
            wrong = self._rows.check(found, connection)
            own = bool(self._rows.tables())
            if wrong and (found or not self._rows.makes_table):
                raise self._refused(f"{wrong}: name another, or mend it")
            if own and not self._columns(connection, "_meta"):
                if not self._create:
                    raise self._refused(
                        "needs tables that are missing and may not be made (create: false): "
                        "'cache storage init' makes them"
                    )
                self.init(connection, with_triggers=False)
            if own:
                self._check_version(connection)

    def init(self, connection: sqlite3.Connection, *, with_triggers: bool) -> None:
        """Make what is missing."""
        with driver_errors(self.path, self.timeout), transaction(connection):
            for statement in self.statements(with_triggers=with_triggers):
                connection.execute(statement)

    def statements(self, *, with_triggers: bool) -> list[str]:
        """What :meth:`init` does."""
        return [*self._rows.tables(), *(self._rows.triggers() if with_triggers else [])]

    def _check_version(self, connection: sqlite3.Connection) -> None:
        [version] = connection.execute(f"SELECT schema_version FROM {self.names.meta}").fetchone()
        if version > SCHEMA_VERSION:
            raise self._refused(
                f"was made by a newer release (schema {version}, we know {SCHEMA_VERSION}): update"
            )

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
