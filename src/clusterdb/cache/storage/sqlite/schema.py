"""The tables of a storage in SQLite, and the triggers that watch for plain SQL.

A row's version grows with each write of ours. A trigger knows ours by the outbox: we write there
first, so that the last line of it is of this very version; whoever else writes did not.
"""

from __future__ import annotations

from typing import Final

from ...config import RowMapping
from .. import migrations
from ..names import Names, literal, quoted

__all__ = [
    "COLUMNS",
    "NOW",
    "TRIGGERS",
    "mapped_triggers",
    "outbox_tables",
    "tables",
    "triggers",
]

NOW: Final = "((julianday('now') - 2440587.5) * 86400.0)"
"""Seconds since the Unix epoch; the function for it is younger than the libraries around."""

COLUMNS: Final = (
    "region",
    "key",
    "value",
    "codec",
    "flags",
    "row_version",
    "expires_at",
    "tags",
    "created_at",
    "updated_at",
    "deleted",
)

TRIGGERS: Final = ("_inserted", "_updated", "_renamed", "_removed")
"""The ends of the triggers' names."""


def tables(names: Names) -> list[str]:
    """The statements that make the table where it is missing."""
    return [
        f"""CREATE TABLE IF NOT EXISTS {names.table} (
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB,
    codec INTEGER NOT NULL DEFAULT 3,
    flags INTEGER NOT NULL DEFAULT 0,
    row_version INTEGER NOT NULL DEFAULT 1,
    expires_at REAL,
    tags TEXT NOT NULL DEFAULT '[]',
    created_at REAL NOT NULL DEFAULT {NOW},
    updated_at REAL NOT NULL DEFAULT {NOW},
    deleted INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (region, key)
)""",
        (
            f"CREATE INDEX IF NOT EXISTS {names.of('_expiry')} ON {names.local('')} (expires_at) "
            f"WHERE expires_at IS NOT NULL"
        ),
        (
            f"CREATE INDEX IF NOT EXISTS {names.of('_deleted')} ON {names.local('')} (updated_at) "
            f"WHERE deleted <> 0"
        ),
    ]


def outbox_tables(names: Names) -> list[str]:
    """The statements that make the outbox where it is missing."""
    form = migrations.newest(migrations.SQLITE)
    return [
        f"""CREATE TABLE IF NOT EXISTS {names.outbox} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    row_version INTEGER NOT NULL,
    origin TEXT NOT NULL DEFAULT '',
    changed_at REAL NOT NULL DEFAULT {NOW}
)""",
        f"""CREATE TABLE IF NOT EXISTS {names.meta} (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    schema_version INTEGER NOT NULL,
    generation TEXT NOT NULL,
    horizon INTEGER NOT NULL DEFAULT 0
)""",
        (
            f"INSERT OR IGNORE INTO {names.meta} (one, schema_version, generation) "
            f"VALUES (1, {form}, lower(hex(randomblob(8))))"
        ),
    ]


def triggers(names: Names) -> list[str]:
    """The statements that make the triggers anew."""
    return _made(names, _bodies(names))


def mapped_triggers(names: Names, mapping: RowMapping) -> list[str]:
    """The same for a table of the user's own."""
    return _made(names, _mapped_bodies(names, mapping))


def _made(names: Names, bodies: list[str]) -> list[str]:
    made: list[str] = []
    for end, body in zip(TRIGGERS, bodies, strict=True):
        made.append(f"DROP TRIGGER IF EXISTS {names.of(end)}")
        made.append(f"CREATE TRIGGER {names.of(end)} {body}")
    return made


def _bodies(names: Names) -> list[str]:
    table, outbox = names.local(""), names.local("_outbox")
    last = f"(SELECT region, key, row_version FROM {outbox} ORDER BY id DESC LIMIT 1)"
    tell = f"INSERT INTO {outbox} (region, key, row_version) VALUES"
    keep = (
        f"INSERT OR REPLACE INTO {table} (region, key, row_version, deleted) "
        f"VALUES (old.region, old.key, old.row_version + 1, 1)"
    )
    return [
        f"""AFTER INSERT ON {table}
WHEN (new.region, new.key, new.row_version) IS NOT {last}
BEGIN
    {tell} (new.region, new.key, new.row_version);
END""",
        f"""AFTER UPDATE ON {table}
WHEN new.row_version = old.row_version AND NOT (old.deleted AND new.deleted)
BEGIN
    {tell} (new.region, new.key, old.row_version + 1);
    UPDATE {table} SET row_version = old.row_version + 1, updated_at = {NOW}
    WHERE region = new.region AND key = new.key;
END""",
        f"""AFTER UPDATE OF region, key ON {table}
WHEN new.region <> old.region OR new.key <> old.key
BEGIN
    {tell} (old.region, old.key, old.row_version + 1);
    {keep};
END""",
        f"""AFTER DELETE ON {table}
WHEN NOT old.deleted AND (old.expires_at IS NULL OR old.expires_at > {NOW})
BEGIN
    {tell} (old.region, old.key, old.row_version + 1);
    {keep};
END""",
    ]


def _mapped_bodies(names: Names, mapping: RowMapping) -> list[str]:
    assert mapping.version_column is not None
    table, outbox = names.local(""), names.local("_outbox")
    column, version = quoted(mapping.key_column), quoted(mapping.version_column)
    region = literal(mapping.region)
    old_key = f"{literal(mapping.prefix)} || old.{column}"
    new_key = f"{literal(mapping.prefix)} || new.{column}"
    old_version, new_version = f"coalesce(old.{version}, 1)", f"coalesce(new.{version}, 1)"
    last = f"(SELECT region, key, row_version FROM {outbox} ORDER BY id DESC LIMIT 1)"
    tell = f"INSERT INTO {outbox} (region, key, row_version)"
    first = (
        f"max({new_version}, 1 + (SELECT coalesce(max(row_version), 0) FROM {outbox} "
        f"WHERE region = {region} AND key = {new_key}))"
    )
    # A deletion of ours was told with a version above that of the row.
    ours = f"SELECT 1 FROM {last} WHERE region = {region} AND key = {old_key}"
    return [
        f"""AFTER INSERT ON {table}
WHEN ({region}, {new_key}, {new_version}) IS NOT {last}
BEGIN
    UPDATE {table} SET {version} = {first}
    WHERE {column} = new.{column} AND {version} IS NOT {first};
    {tell} SELECT {region}, {new_key}, {version} FROM {table} WHERE {column} = new.{column};
END""",
        f"""AFTER UPDATE ON {table}
WHEN {new_version} = {old_version}
BEGIN
    {tell} VALUES ({region}, {new_key}, {old_version} + 1);
    UPDATE {table} SET {version} = {old_version} + 1 WHERE {column} = new.{column};
END""",
        f"""AFTER UPDATE OF {column} ON {table}
WHEN new.{column} IS NOT old.{column}
BEGIN
    {tell} VALUES ({region}, {old_key}, {old_version} + 1);
END""",
        f"""AFTER DELETE ON {table}
WHEN NOT EXISTS ({ours} AND row_version > {old_version})
BEGIN
    {tell} VALUES ({region}, {old_key}, {old_version} + 1);
END""",
    ]
