"""Servers that go and come back, as events."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.redis.backends import config_of
from tests.redis.load import until
from tests.redis.servers import Deployment, Server, start

from clusterdb.cache import BackendUnavailable, Cache, CacheError, NodeDown, NodeUp, Subscription

URL = "redis://127.0.0.1"


def deployment_of(server: Server) -> Deployment:
    return Deployment("standalone", [f"{URL}:{server.port}"], [server])


async def next_of(events: Subscription[Any], within: float = 10) -> Any:
    return await asyncio.wait_for(anext(events), within)


async def test_a_server_that_dies_and_comes_back_is_told(server):
    config = config_of(deployment_of(server), timeout=1)
    async with Cache(config) as cache, cache.subscribe(NodeDown, NodeUp) as events:
        await cache.set("k", 1)
        server.kill()
        with pytest.raises(BackendUnavailable):
            await cache.get("k")
        down = await next_of(events)
        server.start()
        up = await next_of(events)

        assert isinstance(down, NodeDown)
        assert isinstance(up, NodeUp)
        assert down.node == up.node == f"127.0.0.1:{server.port}"
        assert down.reason
        assert down.origin == cache.access.runtime.origin
        assert await cache.get("k") is None


async def test_who_comes_late_hears_of_a_server_that_is_away_already(server):
    config = config_of(deployment_of(server), timeout=1)
    async with Cache(config) as cache:
        server.kill()
        with pytest.raises(BackendUnavailable):
            await cache.get("k")
        async with cache.subscribe(NodeDown) as events:
            assert isinstance(await next_of(events), NodeDown)
        async with cache.subscribe(NodeUp) as events:
            server.start()
            assert isinstance(await next_of(events), NodeUp)


async def test_nobody_looks_while_nobody_listens(server):
    async with Cache(config_of(deployment_of(server))) as cache:
        await cache.set("k", 1)

        def looking() -> bool:
            names = [task.get_name() for task in asyncio.all_tasks()]
            return "clusterdb-cache: servers" in names

        assert not looking()
        async with cache.subscribe(NodeDown):
            await until(looking)
        await until(lambda: not looking())


async def test_a_failover_is_told_as_one_that_went_and_one_that_came(tmp_path):
    deployment = start("sentinel", tmp_path)
    try:
        config = config_of(deployment, timeout=1)
        async with Cache(config) as cache, cache.subscribe(NodeDown, NodeUp) as events:
            await cache.set("k", 1)
            master = deployment.servers[0]
            master.kill()

            async def use() -> None:
                while True:
                    with suppress(CacheError):  # the failover is not done
                        await cache.get("k")
                    await asyncio.sleep(0.05)

            using = asyncio.create_task(use())
            down, up = await next_of(events, 30), await next_of(events, 30)
            using.cancel()
            assert (type(down), type(up)) == (NodeDown, NodeUp)
            assert down.node == f"127.0.0.1:{master.port}"
            assert up.node in {f"127.0.0.1:{each.port}" for each in deployment.servers[1:]}
    finally:
        deployment.stop()
