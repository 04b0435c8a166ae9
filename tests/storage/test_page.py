"""`docs/reference/storage.md` has the columns that the databases have."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest
from tests.house.sources import ROOT

from clusterdb.cache import PostgreSQL, SQLite
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.factory import make_setup

PAGE = (ROOT / "docs" / "reference" / "storage.md").read_text(encoding="utf-8")
TABLES = ("cache_storage", "cache_storage_outbox", "cache_storage_meta")
ROW = re.compile(r"^\| `(\w+)` \| (?:`([^`]+)`)? ?\| (?:`([^`]+)`)? ?\| ", re.MULTILINE)


def documented(table: str, database: int) -> dict[str, str]:
    """The columns of a table with their types: 1 PostgreSQL, 2 SQLite."""
    part = PAGE.partition(f"\n### `{table}`\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return {row[0]: row[database] for row in ROW.findall(part) if row[database]}


@pytest.mark.parametrize("table", TABLES)
async def test_sqlite(table: str, tmp_path: Path):
    path = tmp_path / "storage.db"
    await make_setup(SQLite(path=path), SystemClock()).init(with_triggers=True)
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute(f"PRAGMA table_info({table})").fetchall()

    assert {row[1]: row[2] for row in found} == documented(table, 2)
    assert found


@pytest.mark.parametrize("table", TABLES)
async def test_postgres(table: str, database: str):
    await make_setup(PostgreSQL(url=database), SystemClock()).init(with_triggers=True)
    connection = await asyncpg.connect(database)
    found = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0",
        table,
    )
    await connection.close()

    assert {row[0]: row[1] for row in found} == documented(table, 1)
    assert found


def test_the_update_that_the_page_shows_is_told(tmp_path: Path):
    [statement] = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "storage.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for each in make_setup(SQLite(path=path), SystemClock()).statements(with_triggers=True):
            connection.execute(each)
        connection.execute(
            "INSERT INTO cache_storage (region, key, value) VALUES ('default', 'user:1', '{}')"
        )
        connection.execute(statement)
        told = connection.execute("SELECT key, row_version FROM cache_storage_outbox").fetchall()

    assert told == [("user:1", 1), ("user:1", 2)]
