"""Storage: the database of record behind the cache."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta

from ..errors import InvalidArgument
from .backend import PoolConfig
from .quantities import Duration, FilePath, Items, Name, preset
from .secrets import shown
from .settings import Settings, require

__all__ = ["CallableStorage", "PostgreSQL", "RowMapping", "SQLite", "StorageBackend"]

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


def _column_name(value: object) -> str:
    """Return a plain SQL name of a column."""
    if not isinstance(value, str) or re.fullmatch(_IDENTIFIER, value) is None:
        raise InvalidArgument(f"{shown(value)} is not a column name: letters, digits and '_'")
    return str(value)


def _value_type(value: object) -> object:
    """Return a type: a file can't name one."""
    if value is not None and isinstance(value, (str, int, float, list, dict)):
        raise InvalidArgument(
            f"expected a type, got {shown(value)}: a file can't name one; leave it out, and values "
            f"are mappings of columns, or build the configuration in Python"
        )
    return value


def _function(value: object) -> object:
    """Return a function: a file can't name one."""
    if not callable(value):
        raise InvalidArgument(
            f"expected a function, got {shown(value)}: a file can't name one; "
            f"build the configuration in Python"
        )
    return value


_IN_PYTHON: Final = {"description": "only in Python", "not": {}}

ColumnName = Annotated[str, Meta(extra={"read": _column_name})]
ValueType = Annotated[Any, Meta(extra={"read": _value_type}, extra_json_schema=_IN_PYTHON)]
Function = Annotated[Any, Meta(extra={"read": _function}, extra_json_schema=_IN_PYTHON)]
PostgresUrl = Annotated[str, Meta(extra={"read": _postgres_url})]
TableName = Annotated[str, Meta(extra={"read": _table_name})]


class RowMapping(Settings, frozen=True, kw_only=True):
    """A table of the user's own as the rows of one `region`.

    The key of a row is `prefix` and the text of its `key_column`, which is unique and of text,
    integer or UUID. Its value is a mapping of `columns`, or an object of `type` that has them as
    attributes. Rows have versions, and their changes are told, where `version_column` names a
    column of whole numbers (bigint in PostgreSQL); they expire where `expires_column` names one:
    timestamptz in PostgreSQL, seconds since the Unix epoch in SQLite. They have no tags.
    """

    table: TableName
    key_column: ColumnName
    columns: Items[ColumnName]
    type: ValueType = None
    prefix: str = ""
    version_column: ColumnName | None = None
    expires_column: ColumnName | None = None
    region: Name = "default"

    def _check(self) -> None:
        """Check that there is a value, and that each column has one meaning."""
        require(bool(self.columns), "columns", "needs at least one column")
        own = [self.version_column, self.expires_column]
        named = [self.key_column, *[name for name in own if name is not None]]
        require(len(set(named)) == len(named), "version_column", "names a column twice")
        for name in self.columns:
            require(name not in own, "columns", f"{name!r} is the version or the expiry already")
        require(len(set(self.columns)) == len(self.columns), "columns", "names a column twice")
        require("\0" not in self.prefix, "prefix", "must not contain NUL")


class PostgreSQL(Settings, frozen=True, kw_only=True, tag_field="type", tag="postgresql"):
    """A table of a PostgreSQL database.

    `create`: the tables are made on first use where they are missing; that is what one wants of a
    new database, and it never changes what is there: `cache storage init` does. False where the
    program's role may not make tables. `rows`: a table of the user's own, instead of `table`; what
    is beside it (outbox) is named after it. `pool.timeout` is for each statement, for the wait for
    a row's lock, and for what is done between a write and its commit.
    """

    url: PostgresUrl
    table: TableName = "cache_storage"
    pool: PoolConfig = PoolConfig()
    create: bool = True
    rows: RowMapping | None = None


class SQLite(Settings, frozen=True, kw_only=True, tag_field="type", tag="sqlite"):
    """A table of a SQLite file.

    `create`: file and tables are made on first use where they are missing, and nothing that is
    there is changed. `rows`: a table of the user's own, instead of `table`; what is beside it
    (outbox) is named after it. A call waits at most `timeout` for another process that writes.
    """

    path: FilePath
    table: TableName = "cache_storage"
    create: bool = True
    rows: RowMapping | None = None
    timeout: Duration = preset("5s")

    def _check(self) -> None:
        """Check that there is time to wait, and that the table is in the file itself."""
        require(self.timeout > 0, "timeout", "must be above 0 seconds")
        table = self.table if self.rows is None else self.rows.table
        schema = table.rpartition(".")[0]
        require(schema in ("", "main"), "table", f"{table!r} is not in the file: no schema")


class CallableStorage(Settings, frozen=True, kw_only=True, tag_field="type", tag="callable"):
    """A storage of any kind, by functions of its own; not in a file.

    `load` is given a list of keys and returns a mapping of those that it has; `write` a mapping of
    keys to values; `delete` a list of keys. Each may be a coroutine function, else it runs in a
    thread. There are no versions, no transactions and no changes told of: what is written to the
    storage past the cache is seen when the cached copy ends. A call may take `timeout`.
    """

    load: Function
    write: Function | None = None
    delete: Function | None = None
    timeout: Duration = preset("5s")

    def _check(self) -> None:
        """Check that there is time for a call."""
        require(self.timeout > 0, "timeout", "must be above 0 seconds")


StorageBackend: TypeAlias = PostgreSQL | SQLite | CallableStorage
