"""Tables of an older release, and of a newer one. There is one form yet: the others are tests'."""

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import asyncpg
import pytest
from tests.house.sources import ROOT
from tests.storage.migrating import STEPS
from tests.storage.worker import config_of

from clusterdb.cache import PostgreSQL, RowMapping, SQLite
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import ConfigError
from clusterdb.cache.factory import make_setup, make_storage
from clusterdb.cache.rows import RowChange, Storage
from clusterdb.cache.storage import migrations
from clusterdb.cache.storage.migrations import Step
from clusterdb.cache.storage.names import Names


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call it, and this is a release that knows two forms more."""

    def become(steps: tuple[Step, ...] = STEPS) -> None:
        monkeypatch.setattr(migrations, "POSTGRES", steps)
        monkeypatch.setattr(migrations, "SQLITE", steps)

    return become


@asynccontextmanager
async def opened(config: PostgreSQL | SQLite) -> AsyncIterator[Storage]:
    storage = make_storage(config, SystemClock(), "us")
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


async def made(config: PostgreSQL | SQLite) -> None:
    """Tables of the first form, with a row."""
    async with opened(config) as storage:
        await storage.write([RowChange("main", "k", Encoded(b"v", 5))])


async def row(config: PostgreSQL | SQLite) -> Any:
    async with opened(config) as storage:
        [found] = await storage.read("main", ["k"])
        return found


async def sql(config: PostgreSQL | SQLite, statement: str) -> list[tuple[Any, ...]]:
    """What a statement says."""
    if isinstance(config, SQLite):
        with closing(sqlite3.connect(config.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()
    session = await asyncpg.connect(config.url)
    try:
        return [tuple(each) for each in await session.fetch(statement)]
    finally:
        await session.close()


async def form(config: PostgreSQL | SQLite) -> int:
    [[version]] = await sql(config, "SELECT schema_version FROM cache_storage_meta")
    return int(version)


async def test_an_older_form_is_brought_up_to_date(config: str, newer: Any):
    """By `cache storage init` alone; the rows stay, and it may run again."""
    storage = config_of(config)
    await made(storage)
    newer()
    with pytest.raises(ConfigError, match=r"schema 1, we need 3.*'cache storage init'"):
        await row(storage)
    for _ in range(2):
        await make_setup(storage, SystemClock()).init(with_triggers=True)
        assert await form(storage) == 3
    assert (await row(storage)).value.payload == b"v"
    assert await sql(storage, "SELECT note FROM cache_storage") == [("of form 1",)]
    assert await sql(storage, "SELECT weight FROM cache_storage_outbox") == [(None,)]


async def test_only_the_steps_that_are_ahead_are_taken(config: str, newer: Any):
    storage = config_of(config)
    await made(storage)
    newer(STEPS[:1])
    await make_setup(storage, SystemClock()).init(with_triggers=False)
    assert await form(storage) == 2
    newer()
    await make_setup(storage, SystemClock()).init(with_triggers=False)
    assert await form(storage) == 3


async def test_new_tables_are_of_the_newest_form(config: str, newer: Any):
    newer()
    storage = config_of(config)
    await made(storage)
    assert await form(storage) == 3


async def test_a_step_that_fails_changes_nothing(config: str, newer: Any):
    def fails(names: Names) -> list[str]:
        return [f"ALTER TABLE {names.outbox} ADD COLUMN weight integer", "SELECT no_such_thing"]

    storage = config_of(config)
    await made(storage)
    newer((STEPS[0], Step(3, outbox=fails)))
    with pytest.raises(Exception, match="no_such_thing"):
        await make_setup(storage, SystemClock()).init(with_triggers=False)
    assert await form(storage) == 1
    newer(())
    assert (await row(storage)).value.payload == b"v"
    newer()
    await make_setup(storage, SystemClock()).init(with_triggers=False)
    assert await form(storage) == 3


async def test_a_newer_form_is_left_alone(config: str, newer: Any):
    """By programs that start, and by `cache storage init` of an older release."""
    storage = config_of(config)
    newer()
    await made(storage)
    newer(())
    with pytest.raises(ConfigError, match=r"newer release \(schema 3, we know 1\): update"):
        await row(storage)
    with pytest.raises(ConfigError, match="newer release"):
        await make_setup(storage, SystemClock()).init(with_triggers=True)
    assert await form(storage) == 3


async def test_a_users_table_is_spared(config: str, newer: Any):
    """Beside it there are an outbox and a meta table of ours: these are brought up to date."""
    plain = config_of(config)
    await sql(plain, "CREATE TABLE users (id text PRIMARY KEY, name text, version bigint)")
    rows = RowMapping(
        table="users", key_column="id", columns=["name"], version_column="version", region="main"
    )
    described = {**json.loads(config), "rows": rows}
    storage = SQLite(**described) if "path" in described else PostgreSQL(**described)
    async with opened(storage):
        pass
    newer()
    await make_setup(storage, SystemClock()).init(with_triggers=True)
    async with opened(storage):
        pass
    assert await sql(plain, "SELECT schema_version FROM users_meta") == [(3,)]
    assert await sql(plain, "SELECT * FROM users") == []
    assert await sql(plain, "SELECT weight FROM users_outbox") == []
    with pytest.raises(Exception, match="note"):
        await sql(plain, "SELECT note FROM users")


async def test_a_meta_table_without_its_row_is_told(config: str):
    storage = config_of(config)
    await made(storage)
    await sql(storage, "DELETE FROM cache_storage_meta")
    with pytest.raises(ConfigError, match="'cache storage init' makes it again"):
        await row(storage)
    await make_setup(storage, SystemClock()).init(with_triggers=False)
    assert (await row(storage)).value.payload == b"v"


@pytest.mark.process
async def test_two_processes_at_once_take_each_step_once(config: str):
    storage = config_of(config)
    await made(storage)
    both = [migrating(config) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        said, errors = await asyncio.to_thread(process.communicate, timeout=30)
        assert said == "done\n", errors
    assert await form(storage) == 3


def migrating(config: str) -> "subprocess.Popen[str]":
    words, pipe = [sys.executable, "-m", "tests.storage.migrating", config], subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
