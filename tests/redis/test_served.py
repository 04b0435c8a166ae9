"""A served cache on Redis, looked at by the commands over HTTP."""

from __future__ import annotations

import asyncio
import json

import httpx
from tests.redis.backends import flush
from tests.redis.test_members import cache_of
from tests.redis.test_watching import ended, started
from tests.server.serving import serving

from clusterdb.cache import Cache, CacheConfig, PoolConfig, Redis
from clusterdb.cache.server import ServerSettings


async def said(*argv: str) -> dict:
    code, out, err = await ended(await started(*argv))
    assert code == 0, err
    return json.loads(out)


async def test_commands_see_the_servers_behind_a_server(standalone):
    flush(standalone)
    name = f"127.0.0.1:{standalone.servers[0].port}"
    async with (
        cache_of(standalone, near=False) as cache,
        serving(cache, ServerSettings(port=0, rate=None)) as served,
    ):
        await cache.set("k", 1)
        status = await said("status", "--json", "--url", served.url)
        assert [server["name"] for server in status["servers"]] == [name]
        doctor = await said("doctor", "--json", "--url", served.url)
        checks = {check["name"]: check["detail"] for check in doctor["checks"]}
        assert "1 answered" in checks["server"]

        hot = asyncio.create_task(
            said("keys", "hot", "--for", "4s", "--count", "1", "--json", "--url", served.url)
        )
        while not hot.done():
            await cache.get("k")
            await asyncio.sleep(0.005)
    found = hot.result()
    assert (found["seconds"], found["exact"]) == (4, True)
    [[key, reads, share]] = found["keys"]
    assert (key, reads, share) == ("k", found["reads"], 1.0)
    assert reads > 10


async def test_reads_are_counted_for_one_at_a_time_and_not_for_who_has_gone(standalone):
    target = "/v1/regions/default/hot-keys?seconds=60"
    async with (
        cache_of(standalone, near=False) as cache,
        serving(cache, ServerSettings(port=0, rate=None)) as served,
    ):
        async with served.connection() as first, asyncio.timeout(20):
            await first.send(served.request(target))
            await until_monitors(standalone, 1)
            async with served.connection() as second:
                await second.send(served.request(target))
                assert await second.status() == 503
        await until_monitors(standalone, 0)


async def until_monitors(servers, wanted: int) -> None:
    """Wait until so many clients of the server are told of all its commands."""
    async with asyncio.timeout(20):
        while await asyncio.to_thread(monitors, servers.servers[0]) != wanted:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.02)


def monitors(server) -> int:
    return server.cli("client", "list").count(" flags=O ")


async def test_a_dead_backend_is_told_by_the_server_and_its_commands(server):
    pool = PoolConfig(timeout=1, connect_timeout=1)
    backend = Redis(urls=(f"redis://127.0.0.1:{server.port}",), pool=pool)
    config = CacheConfig(name="shop", backend=backend)
    async with (
        Cache(config) as cache,
        serving(cache, ServerSettings(port=0, rate=None)) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        assert (await client.get("/readyz")).json() == {"status": "ok"}
        server.kill()
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "failing"})
        assert (await client.get("/healthz")).status_code == 200
        overview = await client.get("/v1/overview")
        assert (overview.status_code, overview.json()["title"]) == (
            503,
            "The cache can't be reached",
        )
        assert 'cache_up{cache="shop"} 0' in (await client.get("/metrics")).text

        code, out, _ = await ended(await started("health", "--json", "--url", served.url))
        checks = {check["name"]: check for check in json.loads(out)["checks"]}
        assert (code, checks["backend"]["status"]) == (1, "failing")
        assert "cache doctor" in checks["backend"]["remedy"]
        code, _, err = await ended(await started("top", "--once", "--url", served.url))
        assert (code, err.count("\n")) == (3, 1)
        code, out, _ = await ended(await started("doctor", "--json", "--url", served.url))
        [asked] = [check for check in json.loads(out)["checks"] if check["name"] == "server"]
        assert (code, asked["ok"]) == (1, False)
