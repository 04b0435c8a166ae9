"""Processes that share a server: each is told of by the server, for as long as it is there."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from tests.redis.backends import flush
from tests.redis.servers import Deployment

from clusterdb.cache import Cache, CacheConfig, PoolConfig, Redis
from clusterdb.cache.backends.redis import membership
from clusterdb.cache.members import SILENT_FOR, Member

KEY = "shop:#members"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats that a test need not wait for."""
    monkeypatch.setattr(membership, "FIRST", 0.01)
    monkeypatch.setattr(membership, "BEAT", 0.05)


def cache_of(deployment: Deployment, **settings) -> Cache:
    pool = PoolConfig(timeout=2, connect_timeout=1)
    cluster = deployment.kind == "cluster"
    backend = Redis(urls=deployment.urls, pool=pool, cluster=cluster, **settings)
    return Cache(CacheConfig(name="shop", backend=backend))


async def members_of(cache: Cache) -> tuple[Member, ...]:
    return (await cache.access.runtime.backend.describe()).members


async def until(cache: Cache, holds: Callable[[tuple[Member, ...]], object]) -> tuple[Member, ...]:
    async with asyncio.timeout(10):
        while not holds(found := await members_of(cache)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


@pytest.mark.parametrize("kind", ["standalone", "cluster", "ring"])
async def test_each_process_is_told_of_until_it_leaves(kind, request):
    servers = request.getfixturevalue(kind)
    flush(servers)
    async with cache_of(servers) as one:
        async with cache_of(servers) as two:
            await two.set("k", 1)
            async with asyncio.timeout(5):
                while (await two.lookup("k")).tier != "near":  # type: ignore[union-attr] # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            for _ in range(20):
                await two.get("k")
            found = await until(
                one,
                lambda found: len(found) == 2 and any(m.figures.near_hits >= 20 for m in found),
            )
            for each in found:
                assert (each.host, each.pid) == (socket.gethostname(), os.getpid())
                assert each.version
                assert each.program
                assert 0 <= each.silent < 5
                assert each.figures.lag is not None
            [busy] = [each for each in found if each.figures.near_hits]
            hits, misses = busy.figures.near_hits, busy.figures.near_misses
            assert misses > 0  # the first look at least, and more until the server was heard
            assert busy.figures.near_ratio == hits / (hits + misses)
        assert len(await until(one, lambda found: len(found) < 2)) == 1


async def test_who_was_killed_is_forgotten_by_the_servers_clock(standalone):
    [server] = standalone.servers
    flush(standalone)
    seconds, _ = server.cli("TIME").split()
    said = {"host": "h", "pid": 7, "program": "p", "version": "1", "started": 5.0}
    lately, long_ago = (
        {"seen": (int(seconds) - ago) * 1000, **said} for ago in (30, SILENT_FOR + 5)
    )
    for name, each in (("lately", lately), ("long ago", {**long_ago, "pid": 8})):
        server.cli("HSET", KEY, name, json.dumps(each, separators=(",", ":")))
    async with cache_of(standalone) as cache:
        assert [each.pid for each in await members_of(cache)] == [7], "before we spoke"
        found = await until(cache, lambda found: len(found) == 2)
        assert found[0].pid == 7
        assert 29 <= found[0].silent <= 40
        assert server.cli("HEXISTS", KEY, "lately") == "1"
        assert server.cli("HEXISTS", KEY, "long ago") == "0"
        assert 0 < int(server.cli("PTTL", KEY)) <= 60_000


async def test_status_shows_the_fleet(standalone):
    flush(standalone)
    async with cache_of(standalone) as cache:
        await until(cache, bool)
        argv = ("-m", "clusterdb.cache.cli", "status", "--url", f"{standalone.urls[0]}?name=shop")
        text, written = [
            await asyncio.to_thread(
                subprocess.check_output, [sys.executable, *argv, *more], text=True
            )
            for more in ((), ("--json",))
        ]

    [process] = json.loads(written)["processes"]
    assert process["pid"] == os.getpid()
    assert process["figures"].keys() == {"near_hits", "near_misses", "lag"}
    assert f"{socket.gethostname()}:{os.getpid()}" in text.replace("\n", "")
    assert process["version"] in text


async def test_the_last_one_leaves_nothing(standalone):
    [server] = standalone.servers
    flush(standalone)
    async with cache_of(standalone) as cache:
        await until(cache, bool)
        assert server.cli("EXISTS", KEY) == "1"
    assert server.cli("EXISTS", KEY) == "0"


async def test_a_command_that_is_over_soon_says_nothing(standalone, monkeypatch):
    [server] = standalone.servers
    flush(standalone)
    monkeypatch.setattr(membership, "FIRST", 1.0)
    async with cache_of(standalone) as cache:
        await cache.set("k", 1)
        assert await members_of(cache) == ()
    assert server.cli("EXISTS", KEY) == "0"


@pytest.mark.parametrize(
    "stored",
    ["no json", "[1, 2]", "{}", '{"seen":"x"}', '{"seen":1e300,"host":5}', "[" * 1000, "x" * 2000],
)
async def test_what_others_stored_there_harms_nobody(standalone, stored):
    [server] = standalone.servers
    flush(standalone)
    server.cli("HSET", KEY, "theirs", stored)
    async with cache_of(standalone) as cache:
        assert await members_of(cache) == ()
        found = await until(cache, bool)
        assert [each.pid for each in found] == [os.getpid()]
        await cache.set("k", 1)
        assert await cache.get("k") == 1


async def test_what_is_too_many_is_not_read(standalone):
    [server] = standalone.servers
    flush(standalone)
    script = "for n = 1, 1000 do redis.call('HSET', KEYS[1], n, 'x') end"
    server.cli("EVAL", script, "1", KEY)
    async with cache_of(standalone) as cache:
        assert await members_of(cache) == ()
        assert len(await until(cache, bool)) == 1
        assert server.cli("HLEN", KEY) == "1"


async def test_a_key_of_another_type_is_replaced(standalone):
    [server] = standalone.servers
    flush(standalone)
    server.cli("LPUSH", KEY, "x")
    async with cache_of(standalone) as cache:
        assert await members_of(cache) == ()
        assert len(await until(cache, bool)) == 1


async def test_there_are_no_more_than_can_be_shown(standalone, monkeypatch):
    [server] = standalone.servers
    flush(standalone)
    monkeypatch.setattr(membership, "MOST", 3)
    caches = [cache_of(standalone) for _ in range(5)]
    try:
        for cache in caches:
            await cache.start()
        await until(caches[0], lambda found: len(found) == 3)
        for _ in range(20):
            assert int(server.cli("HLEN", KEY)) <= 3
            await asyncio.sleep(0.01)
    finally:
        for cache in caches:
            await cache.aclose()


async def test_entries_and_scans_know_nothing_of_it(standalone):
    flush(standalone)
    async with cache_of(standalone) as cache:
        await cache.set("k", 1)
        await until(cache, bool)
        assert [key async for key in cache.scan()] == ["k"]
        await cache.clear()
        assert [key async for key in cache.scan()] == []
        assert len(await until(cache, bool)) == 1


async def test_a_user_who_may_not_say_so_is_refused_once(server):
    user = ("ACL", "SETUSER", "quiet", "on", ">secret", "~*", "&*", "+@all", "-@hash")
    assert server.cli(*user) == "OK"
    redis = Redis(urls=[f"redis://127.0.0.1:{server.port}"], username="quiet", password="secret")
    async with Cache(CacheConfig(name="shop", backend=redis)) as cache:
        async with asyncio.timeout(5):
            while "hexists" not in server.cli("ACL", "LOG"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        server.cli("ACL", "LOG", "RESET")
        await asyncio.sleep(10 * membership.BEAT)
        assert server.cli("ACL", "LOG") == ""
        assert await members_of(cache) == ()
        await cache.set("k", 1)
        assert await cache.get("k") == 1


async def test_a_full_server_still_tells_who_is_there(server):
    server.cli("CONFIG", "SET", "maxmemory", "1mb")
    redis = Redis(urls=[f"redis://127.0.0.1:{server.port}"])
    async with Cache(CacheConfig(name="shop", backend=redis)) as cache:
        assert len(await until(cache, bool)) == 1
