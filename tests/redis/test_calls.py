"""Calls to one real server: what comes back, and on which connection."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic

import pytest
from tests.redis.conftest import now
from tests.redis.load import until

from clusterdb.cache.config import SentinelConfig
from clusterdb.cache.errors import BackendUnavailable, ServerError

HOSTILE = [
    b"a\r\n$3\r\nDEL\r\n",
    b"\x00\xff",
    b" ",
    b"{tag}*?[a-z]",
    b"\r\nFLUSHALL\r\n",
    b"k" * 65_536,
    "ключ".encode(),
]


@pytest.fixture
async def client(standalone, opened):
    async with opened(*standalone.urls) as topology:
        yield topology
        await topology.call(None, ("FLUSHALL",), now() + 1, write=True)


@pytest.fixture
def node(client):
    return client.nodes()[0]


def soon(seconds=2.0):
    return now() + seconds


async def test_every_byte_of_a_key_comes_back(client):
    await client.call(None, ("FLUSHALL",), soon(), write=True)
    for key in HOSTILE:
        await client.call(key, ("SET", key, key[::-1]), soon(), write=True)
    replies = await client.execute([("GET", key) for key in HOSTILE], HOSTILE, soon())

    assert replies == [key[::-1] for key in HOSTILE]
    assert await client.call(None, ("DBSIZE",), soon()) == len(HOSTILE)


async def test_a_pipeline_of_thousands_is_one_flush(client, node):
    keys = [b"k%d" % n for n in range(20_000)]
    replies = await client.execute([("SET", k, k) for k in keys], keys, soon(10), write=True)
    assert replies == [b"OK"] * len(keys)

    assert await client.execute([("GET", k) for k in keys], keys, soon(10)) == keys


async def test_resp3_types(client):
    await client.call(b"h", ("HSET", "h", "a", 1, "b", 2), soon(), write=True)
    await client.call(b"z", ("ZADD", "z", 1.5, "m"), soon(), write=True)

    assert await client.call(b"h", ("HGETALL", "h"), soon()) == {b"a": b"1", b"b": b"2"}
    assert await client.call(b"z", ("ZSCORE", "z", "m"), soon()) == 1.5
    assert await client.call(b"x", ("GET", "x"), soon()) is None


async def test_a_script_that_the_server_does_not_know_is_told_by_its_code(client):
    with pytest.raises(ServerError) as caught:
        await client.call(b"k", ("EVALSHA", "0" * 40, 1, "k"), soon(), write=True)

    assert caught.value.code == "NOSCRIPT"


async def test_a_full_server_says_so(server, opened):
    async with opened(f"redis://127.0.0.1:{server.port}") as client:
        await client.call(None, ("CONFIG", "SET", "maxmemory", "100kb"), soon(), write=True)
        with pytest.raises(ServerError, match="maxmemory") as caught:
            await client.call(b"k", ("SET", "k", b"x" * 10_000), soon(), write=True)

    assert caught.value.code == "OOM"


async def test_an_invalidation_is_seen_before_the_reply_behind_it(client, node):
    pushes = []
    tracked = await node.open(soon(), on_push=lambda _, push: pushes.append(push))
    assert await tracked.call(("CLIENT", "TRACKING", "ON"), soon()) == b"OK"
    assert await tracked.call(("GET", "k"), soon()) is None
    for n in range(200):
        await client.call(b"k", ("SET", "k", n), soon(), write=True)
        assert await tracked.call(("GET", "k"), soon()) == b"%d" % n
        assert pushes == [[b"invalidate", [b"k"]]] * (n + 1)


async def test_a_blocking_command_stops_nobody(client, node):
    async with node.exclusive(soon()) as own:
        blocked = own.call(("BLPOP", "list", 0), inf)
        began = monotonic()
        for _ in range(100):
            await client.call(b"k", ("GET", "k"), soon())
        assert monotonic() - began < 1
        await client.call(b"list", ("RPUSH", "list", "x"), soon(), write=True)

        assert await blocked == [b"list", b"x"]
    async with node.exclusive(soon()) as again:
        assert again is own


async def test_wait_counts_the_writes_of_its_own_connection(sentinel, opened):
    settings = {"sentinel": SentinelConfig(master="main")}
    async with (
        opened(*sentinel.urls, **settings) as client,
        client.nodes()[0].exclusive(soon()) as own,
    ):
        replies = await own.calls([("SET", "w", 1), ("WAIT", 2, 1000)], soon(), write=True)

    assert replies == [b"OK", 2]


async def test_an_exclusive_connection_left_in_the_middle_is_not_used_again(client, node):
    async with node.exclusive(soon()) as own:
        own.call(("BLPOP", "list", 0), inf).cancel()
        await asyncio.sleep(0)
    async with node.exclusive(soon()) as other:
        assert other is not own
        assert await other.call(("PING",), soon()) == b"PONG"
    assert own.lost is not None


async def test_exclusive_connections_are_counted(standalone, opened):
    pool = {"max_connections": 1, "connect_timeout": 1, "timeout": 1}
    async with opened(*standalone.urls, pool=pool) as client:
        node = client.nodes()[0]
        async with node.exclusive(soon()):
            with pytest.raises(BackendUnavailable, match="max_connections"):
                async with node.exclusive(soon(0.05)):
                    pass


async def test_large_values_have_a_connection_of_their_own(client, node):
    large = b"x" * 30_000_000
    await client.call(b"l", ("SET", "l", large), soon(10), write=True, bulk=True)
    slow = asyncio.ensure_future(client.call(b"l", ("GET", "l"), soon(10), bulk=True))
    quick = await node.connection(soon())
    bulk = await node.connection(soon(), bulk=True)

    assert quick is not bulk
    assert await client.call(b"k", ("GET", "k"), soon()) is None
    assert not slow.done()
    assert await slow == large


async def test_connections_open_under_load_and_close_when_idle(standalone, opened):
    pool = {"max_connections": 3, "idle_timeout": 0.2, "connect_timeout": 1, "timeout": 5}
    async with opened(*standalone.urls, pool=pool) as client:
        node = client.nodes()[0]
        assert len(node.connections) == 1

        opened_under_load = 1

        async def caller():
            nonlocal opened_under_load
            for n in range(3):
                await client.call(b"k", ("GET", n), soon(10))
                opened_under_load = max(opened_under_load, len(node.connections))

        async with asyncio.timeout(60):
            while opened_under_load == 1:  # the calls may be over before one is open
                await asyncio.gather(*[caller() for _ in range(15_000)])
        await until(lambda: len(node.connections) == 1)

    assert 1 < opened_under_load <= 3


async def test_the_least_number_of_connections_is_kept(standalone, opened):
    pool = {"min_connections": 3, "connect_timeout": 1, "timeout": 1}
    async with opened(*standalone.urls, pool=pool) as client:
        node = client.nodes()[0]
        await until(lambda: len(node.connections) == 3)
        generations = {connection.generation for connection in node.connections}
        numbers = {connection.client_id for connection in node.connections}
        node.connections[0].abort("lost")
        await until(lambda: len(node.connections) == 3)

        assert len(generations) == len(numbers) == 3
        assert generations != {connection.generation for connection in node.connections}


async def test_a_closed_client_says_so(standalone, opened):
    async with opened(*standalone.urls) as client:
        pass
    with pytest.raises(BackendUnavailable, match="closed"):
        await client.call(b"k", ("GET", "k"), soon())
    [reply] = await client.execute([("GET", "k")], [b"k"], soon())
    assert isinstance(reply, BackendUnavailable)
