"""Storage: the database of record behind the cache."""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from msgspec import Meta

from ..errors import InvalidArgument
from .backend import PoolConfig
from .quantities import FilePath
from .secrets import shown
from .settings import Settings

__all__ = ["PostgreSQL", "SQLite", "StorageBackend"]

_IDENTIFIER: Final = r"[A-Za-z_][A-Za-z0-9_]{0,62}"
_TABLE: Final = re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})?")


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
        rule = "letters, digits and '_', optionally schema.table"
        raise InvalidArgument(f"{shown(value)} is not a table name: {rule}")
    return str(value)


PostgresUrl = Annotated[str, Meta(extra={"read": _postgres_url})]
TableName = Annotated[str, Meta(extra={"read": _table_name})]


class PostgreSQL(Settings, frozen=True, kw_only=True, tag_field="type", tag="postgresql"):
    """A table of a PostgreSQL database."""

    url: PostgresUrl
    table: TableName = "cache_storage"
    pool: PoolConfig = PoolConfig()


class SQLite(Settings, frozen=True, kw_only=True, tag_field="type", tag="sqlite"):
    """A table of a SQLite file."""

    path: FilePath
    table: TableName = "cache_storage"


StorageBackend: TypeAlias = PostgreSQL | SQLite
