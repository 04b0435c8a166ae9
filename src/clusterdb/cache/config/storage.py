"""Storage: the database of record behind the cache."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta

from ..errors import InvalidArgument
from .backend import PoolConfig
from .quantities import Duration, FilePath, preset
from .secrets import shown
from .settings import Settings, require

__all__ = ["PostgreSQL", "SQLite", "StorageBackend"]

_IDENTIFIER: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
# What is named after the table has longer names, and a server cuts those of over 63 characters.
_TABLE: Final = re.compile(rf"(?:{_IDENTIFIER}\.)?[A-Za-z_][A-Za-z0-9_]{{0,47}}")


def _postgres_url(value: object) -> str:
    wanted = "expected postgresql://user@host:port/database"
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        sound = parts.scheme in ("postgres", "postgresql") and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise InvalidArgument(f"{wanted}, got {shown(value)}")
    return str(value)


def _table_name(value: object) -> str:
    """Return a plain SQL name: it becomes part of statements."""
    if not isinstance(value, str) or _TABLE.fullmatch(value) is None:
        rule = "letters, digits and '_', at most 48, optionally schema.table"
        raise InvalidArgument(f"{shown(value)} is not a table name: {rule}")
    return str(value)


PostgresUrl = Annotated[str, Meta(extra={"read": _postgres_url})]
TableName = Annotated[str, Meta(extra={"read": _table_name})]


class PostgreSQL(Settings, frozen=True, kw_only=True, tag_field="type", tag="postgresql"):
    """A table of a PostgreSQL database.

    `create`: the tables are made on first use where they are missing; that is what one wants of a
    new database, and it never changes what is there: `cache storage init` does. False where the
    program's role may not make tables. `pool.timeout` is for each statement, for the wait for a
    row's lock, and for what is done between a write and its commit.
    """

    url: PostgresUrl
    table: TableName = "cache_storage"
    pool: PoolConfig = PoolConfig()
    create: bool = True


class SQLite(Settings, frozen=True, kw_only=True, tag_field="type", tag="sqlite"):
    """A table of a SQLite file.

    `create`: file and tables are made on first use where they are missing, and nothing that is
    there is changed. A call waits at most `timeout` for another process that writes.
    """

    path: FilePath
    table: TableName = "cache_storage"
    create: bool = True
    timeout: Duration = preset("5s")

    def _check(self) -> None:
        """Check that there is time to wait, and that the table is in the file itself."""
        require(self.timeout > 0, "timeout", "must be above 0 seconds")
        schema = self.table.rpartition(".")[0]
        require(schema in ("", "main"), "table", f"{self.table!r} is not in the file: no schema")


StorageBackend: TypeAlias = PostgreSQL | SQLite
