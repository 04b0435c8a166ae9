"""A network that loses what is sent, and transactions that lose to others: nothing waits for ever,
and what is not known is said.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.redis.proxy import FaultProxy

from clusterdb.cache import MissingExtra, PoolConfig, PostgreSQL
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import OutcomeUnknown, StorageUnavailable
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, RowWritten, Storage

TIMEOUT = 0.4
WITHIN = 5.0


def put(key: str, value: str = "v") -> RowChange:
    return RowChange("main", key, Encoded(value.encode(), 5))


@asynccontextmanager
async def opened(url: str, timeout: float = TIMEOUT) -> AsyncIterator[Storage]:
    pool = PoolConfig(timeout=timeout, connect_timeout=1)
    storage = make_storage(PostgreSQL(url=url, pool=pool), SystemClock(), "us")
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


@pytest.fixture
async def behind(database: str) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A proxy before the server, and the URL that leads through it."""
    parts = urlsplit(database)
    assert parts.port is not None
    async with FaultProxy(parts.port) as proxy:
        yield proxy, database.replace(f":{parts.port}/", f":{proxy.port}/")


async def value(url: str, key: str) -> Any:
    connection = await asyncpg.connect(url)
    found = await connection.fetchval("SELECT value FROM cache_storage WHERE key = $1", key)
    await connection.close()
    return found


async def test_a_silent_server_ends_a_read(behind: tuple[FaultProxy, str]):
    proxy, url = behind
    async with opened(url) as storage:
        await storage.write([put("k")])
        proxy.mute = True
        with pytest.raises(StorageUnavailable, match=r"has not answered within 0\.4 s"):
            async with asyncio.timeout(WITHIN):
                await storage.read("main", ["k"])
        proxy.mute = False
        proxy.reset()
        [row] = await storage.read("main", ["k"])
        assert row is not None


async def test_a_commit_whose_reply_is_lost_is_not_known(
    behind: tuple[FaultProxy, str], database: str
):
    proxy, url = behind
    async with opened(url) as storage:
        calls = []

        async def mute(_: object) -> None:
            calls.append(1)
            proxy.mute = True

        with pytest.raises(OutcomeUnknown, match="it may have been made or not"):
            async with asyncio.timeout(WITHIN):
                await storage.write([put("k")], before_commit=mute)
        assert calls == [1]
        proxy.mute = False
        proxy.reset()
        assert await value(database, "k") == b"v"
        assert await storage.write([put("k")]) == [RowWritten(applied=True, version=2)]


async def test_a_commit_that_never_arrives_is_not_made_later(
    behind: tuple[FaultProxy, str], database: str
):
    proxy, url = behind
    async with opened(url) as storage:
        await storage.write([put("k")])

        async def hold(_: object) -> None:
            proxy.hold = True

        with pytest.raises(StorageUnavailable, match="the server ended the transaction"):
            async with asyncio.timeout(WITHIN):
                await storage.write([put("k", "late")], before_commit=hold)
        proxy.release()  # the commit arrives now, at a transaction that the server has ended
        assert await storage.write([put("k", "next")]) == [RowWritten(applied=True, version=2)]
        assert await value(database, "k") == b"next"


async def test_a_connection_that_breaks_before_the_commit_wrote_nothing(
    behind: tuple[FaultProxy, str], database: str
):
    proxy, url = behind
    async with opened(url) as storage:

        async def cut(_: object) -> None:
            proxy.reset()
            while proxy.open:  # noqa: ASYNC110 - until the loop has seen to it
                await asyncio.sleep(0)

        with pytest.raises((StorageUnavailable, OutcomeUnknown)):
            await storage.write([put("k")], before_commit=cut)
        assert await value(database, "k") is None
        await storage.write([put("k")])


async def test_the_pool_is_whole_after_faults(behind: tuple[FaultProxy, str], database: str):
    """As many connections may be used at once as before: none was lost on the way."""
    proxy, url = behind
    pool = PoolConfig(timeout=TIMEOUT, connect_timeout=1, max_connections=3)
    storage = make_storage(PostgreSQL(url=url, pool=pool), SystemClock(), "us")
    await storage.open()
    for _ in range(3):
        proxy.mute = True
        reads = [storage.read("main", ["k"]) for _ in range(3)]
        found = await asyncio.gather(*reads, return_exceptions=True)
        assert all(isinstance(each, StorageUnavailable) for each in found)
        proxy.mute = False
        proxy.reset()
    together = asyncio.Barrier(3)

    async def meet(_: object) -> None:
        await together.wait()

    writes = [storage.write([put(key)], before_commit=meet) for key in "abc"]
    await asyncio.gather(*writes)
    await storage.aclose()


async def test_more_callers_than_connections_wait_or_are_told(database: str):
    pool = PoolConfig(timeout=TIMEOUT, max_connections=1)
    storage = make_storage(PostgreSQL(url=database, pool=pool), SystemClock(), "us")
    await storage.open()
    reached, goes_on = asyncio.Event(), asyncio.Event()

    async def before(_: object) -> None:
        reached.set()
        await goes_on.wait()

    first = asyncio.ensure_future(storage.write([put("a")], before_commit=before))
    await reached.wait()
    second = asyncio.ensure_future(storage.write([put("b")]))
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(first, second)
    reached.clear()
    goes_on.clear()
    third = asyncio.ensure_future(storage.write([put("a")], before_commit=before))
    await reached.wait()
    with pytest.raises(StorageUnavailable, match="all connections of the pool were in use"):
        await storage.write([put("b")])
    await asyncio.gather(third, return_exceptions=True)
    await storage.aclose()


FAILING = """
CREATE SEQUENCE attempts;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('attempts') <= {failures} THEN
        RAISE EXCEPTION 'could not serialize' USING ERRCODE = '{code}';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON cache_storage FOR EACH ROW EXECUTE FUNCTION fail();
"""


@pytest.mark.parametrize("code", ["40001", "40P01"], ids=["serialization", "deadlock"])
async def test_a_transaction_that_loses_is_made_again(database: str, code: str):
    admin = await asyncpg.connect(database)
    async with opened(database) as storage:
        await admin.execute(FAILING.format(failures=3, code=code))
        asked = []

        async def before(_: object) -> None:
            asked.append(1)

        written = await storage.write([put("k")], before_commit=before)
        assert written == [RowWritten(applied=True, version=1)]
        assert asked == [1]
        assert await admin.fetchval("SELECT last_value FROM attempts") == 4
    await admin.close()


async def test_a_transaction_that_always_loses_is_given_up(database: str):
    admin = await asyncpg.connect(database)
    async with opened(database) as storage:
        await admin.execute(FAILING.format(failures=1000, code="40001"))
        with pytest.raises(StorageUnavailable, match="lost to others again and again"):
            await storage.write([put("k")])
        assert await admin.fetchval("SELECT last_value FROM attempts") == 6
        await admin.execute("DROP TRIGGER fail ON cache_storage")
        await storage.write([put("k")])
    await admin.close()


def test_the_driver_is_an_extra(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("clusterdb.cache.storage.postgr")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(MissingExtra, match=r"clusterdb-cache\[postgres\]"):
        make_storage(PostgreSQL(url="postgresql://localhost/db"), SystemClock())
