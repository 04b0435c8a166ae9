"""Transactions that lose to others, and locks that others hold: made again, or told, never half."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import asyncpg
import pytest
from tests.write_modes.test_behind import pending
from tests.write_modes.world import MODES, World, until

from clusterdb.cache import Cache, CacheCoherence, CacheConfig, Hit, StorageUnavailable
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import Memory, PostgreSQL, RowMapping, SQLite
from clusterdb.cache.factory import make_setup
from clusterdb.cache.types import MISSING

LOSING = """
CREATE SEQUENCE attempts;
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempts') <= {times} THEN
        RAISE EXCEPTION 'lost to another' USING ERRCODE = '{code}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER lose BEFORE INSERT OR UPDATE ON cache_storage
FOR EACH ROW EXECUTE FUNCTION lose();
"""

on_postgres = pytest.mark.parametrize("storage", ["postgres"], indirect=True)
in_each_mode = pytest.mark.parametrize("mode", ["through", "around", "behind"])

SERIALIZATION, DEADLOCK = "40001", "40P01"


@asynccontextmanager
async def losing(world: World, code: str, times: int) -> AsyncIterator[None]:
    """The database ends so many transactions with an error of those that may be made again."""
    await world.database()
    admin = await asyncpg.connect(world.storage_config.url)
    await admin.execute(LOSING.format(code=code, times=times))
    try:
        yield
    finally:
        await admin.execute("DROP TRIGGER lose ON cache_storage")
        await admin.close()


@on_postgres
@pytest.mark.parametrize(
    ("mode", "code"),
    [("through", SERIALIZATION), ("around", DEADLOCK), ("behind", SERIALIZATION)],
)
async def test_a_transaction_that_loses_is_made_again(world: World, mode: str, code: str):
    cache = await world.cache(mode)
    async with losing(world, code, times=3):
        assert await cache.set("k", 1)
        assert await cache.increment("n", initial=5) == 6
        assert await cache.atomic().check_absent("a").set("a", 1).set("b", 1).execute()
        await until(lambda: not pending(cache), "the flush")
    assert [await world.value(key) for key in ("k", "n", "a", "b")] == [1, 6, 1, 1]
    assert [await cache.get(key) for key in ("k", "n", "a", "b")] == [1, 6, 1, 1]


@on_postgres
@pytest.mark.parametrize(("mode", "code"), [("through", DEADLOCK), ("around", SERIALIZATION)])
async def test_one_that_always_loses_is_told(world: World, mode: str, code: str):
    cache = await world.cache(mode)
    await cache.set("k", "old")
    async with losing(world, code, times=10_000):
        with pytest.raises(StorageUnavailable, match=r"again and again.*nothing was written"):
            await cache.set("k", "new")
        with pytest.raises(StorageUnavailable):
            await cache.atomic().check("k", "old").set("k", "new").set("other", 1).execute()
        assert await cache.get("k") == await world.value("k") == "old"
        assert await world.value("other") is MISSING
    await cache.set("k", "new")
    assert await cache.get("k") == await world.value("k") == "new"


@on_postgres
async def test_what_is_written_behind_waits_and_is_told(world: World):
    cache = await world.cache("behind")
    async with losing(world, DEADLOCK, times=10_000):
        await cache.set_many({"k": 1, "l": 2})

        async def told() -> bool:
            return "again and again" in str(await cache.get_health())

        await until(told, "a health that says so")
        assert await cache.get("k") == 1
        assert pending(cache) == 2
        assert await world.value("k") is MISSING
    await until(lambda: not pending(cache), "the flush")
    assert [await world.value(key) for key in "kl"] == [1, 2]


# -- a program that works on the same rows, in transactions that see one moment


ACCOUNTS = RowMapping(
    table="accounts",
    key_column="id",
    columns=["balance"],
    prefix="account:",
    version_column="version",
)


@on_postgres
@pytest.mark.parametrize(
    ("mode", "isolation"),
    [("through", "serializable"), ("around", "repeatable_read"), ("behind", "serializable")],
)
async def test_transfers_of_two_programs_add_up(world: World, mode: str, isolation: str):
    """One moves money by atomic updates, the other by SQL. Each move is made once, and whole."""
    url = world.storage_config.url
    admin, other = await asyncpg.connect(url), await asyncpg.connect(url)
    await admin.execute(
        "CREATE TABLE accounts (id text PRIMARY KEY, balance int, version bigint);"
        "INSERT INTO accounts VALUES ('a', 1000, 1), ('b', 1000, 1)"
    )
    rows = PostgreSQL(url=url, rows=ACCOUNTS)
    await make_setup(rows, SystemClock()).init(with_triggers=True)
    options: dict[str, Any] = {"journal": world.journal} if mode == "behind" else {}
    coherence = CacheCoherence(mode=MODES[mode](backend=rows, **options))
    async with Cache(CacheConfig(backend=Memory(), coherence=coherence)) as cache:
        await asyncio.gather(by_the_cache(cache, 10), by_sql(other, isolation, 10))
        assert await admin.fetch("SELECT balance FROM accounts ORDER BY id") == [(980,), (1020,)]

        async def agree() -> bool:
            found = await cache.get_many(["account:a", "account:b"])
            return found == {"account:a": {"balance": 980}, "account:b": {"balance": 1020}}

        await until(agree, "the cache to have what the database has")
    await admin.close()
    await other.close()


async def by_the_cache(cache: Cache, moves: int) -> None:
    while moves:
        a, b = await cache.lookup("account:a"), await cache.lookup("account:b")
        assert isinstance(a, Hit)
        assert isinstance(b, Hit)
        moved = await (
            cache.atomic()
            .check_version("account:a", a.version)
            .check_version("account:b", b.version)
            .set("account:a", {"balance": a.value["balance"] - 1})
            .set("account:b", {"balance": b.value["balance"] + 1})
            .execute()
        )
        if not moved:  # the copies are older than the rows
            for key in ("account:a", "account:b"):
                await cache.invalidate(key)
        moves -= moved


async def by_sql(connection: Any, isolation: str, moves: int) -> None:
    change = "UPDATE accounts SET balance = $1 WHERE id = $2"
    while moves:
        try:
            async with connection.transaction(isolation=isolation):
                b, a = await connection.fetch("SELECT balance FROM accounts ORDER BY id DESC")
                await connection.execute(change, b["balance"] + 1, "b")
                await connection.execute(change, a["balance"] - 1, "a")
        except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
            continue
        moves -= 1


# -- locks that are held for long


@asynccontextmanager
async def held(world: World, key: str) -> AsyncIterator[None]:
    """Another program has the lock of a row, or of the whole file."""
    if isinstance(world.storage_config, SQLite):
        with closing(sqlite3.connect(world.storage_config.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    session = await asyncpg.connect(world.storage_config.url)
    async with session.transaction():
        await session.execute("SELECT 1 FROM cache_storage WHERE key = $1 FOR UPDATE", key)
        yield
    await session.close()


@pytest.mark.parametrize("storage", ["sqlite", "postgres"], indirect=True)
@in_each_mode
async def test_a_lock_that_is_held_for_long(world: World, mode: str):
    """Who writes waits, and is told in the end; what is written behind waits for its turn."""
    world.be_impatient()
    cache = await world.cache(mode)
    await cache.set("k", "old")
    await until(lambda: not pending(cache), "the flush")
    async with held(world, "k"):
        if mode == "behind":
            await cache.set("k", "new")

            async def told() -> bool:
                return "has held the" in str(await cache.get_health())

            await until(told, "a health that says so")
        else:
            both = await asyncio.gather(
                cache.set("k", "new"),
                cache.atomic().check("k", "old").set("k", "x").set("l", 1).execute(),
                return_exceptions=True,
            )
            assert [type(each) for each in both] == [StorageUnavailable] * 2
            assert "nothing was written" in str(both[0])
        assert await cache.get("k") == ("new" if mode == "behind" else "old")
        assert await world.value("k") == "old"
    await cache.set("k", "new")
    await until(lambda: not pending(cache), "the flush")
    assert await cache.get("k") == await world.value("k") == "new"
    assert await world.value("l") is MISSING
