"""What a real server, its connections and the near tier in front of it show to a scrape."""

from __future__ import annotations

import asyncio

from tests.layers import innermost
from tests.redis.backends import config_of, flush
from tests.redis.servers import Deployment, Server

from clusterdb.cache import BackendUnavailable, Cache, CacheConfig, Hit, PoolConfig, Redis
from clusterdb.monitoring import Metric


def value(samples: list[Metric], name: str, **labels: str) -> float:
    [found] = [
        each.value
        for each in samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    return found


async def test_calls_servers_and_the_near_tier(standalone: Deployment):
    flush(standalone)
    async with Cache(config_of(standalone)) as cache:
        await cache.set("k", 1)
        async with asyncio.timeout(20):
            while not (isinstance(found := await cache.lookup("k"), Hit) and found.tier == "near"):  # noqa: ASYNC110 - the server tells when
                await asyncio.sleep(0.01)
        before = await cache.get_metrics()
        for _ in range(50):
            assert await cache.get("k") == 1
        after = await cache.get_metrics()

    server = next(each.labels["server"] for each in after if each.name == "cache_server_up")
    assert value(after, "cache_up") == value(after, "cache_server_up", server=server) == 1
    assert value(after, "cache_connections", server=server) >= 1
    assert value(after, "cache_reconnects", server=server) == 0
    assert value(after, "cache_server_memory_bytes", server=server) > 100_000
    assert 0 <= value(after, "cache_near_age_seconds") < 5
    reads = {"operation": "read", "outcome": "hit", "tier": "redis"}
    writes = {"operation": "write", "outcome": "ok", "tier": "redis"}
    assert value(after, "cache_operation_seconds", **writes) == 1
    assert value(before, "cache_operation_seconds", **reads) >= 1
    assert value(after, "cache_operation_seconds", **reads) == value(
        before, "cache_operation_seconds", **reads
    ), "hits near are not among them"
    assert value(after, "cache_hits") - value(before, "cache_hits") == 50


async def test_an_outage_and_the_way_back_are_seen(server: Server):
    redis = Redis(
        urls=(f"redis://127.0.0.1:{server.port}",),
        pool=PoolConfig(timeout=0.5, connect_timeout=0.5),
    )
    async with Cache(CacheConfig(backend=redis)) as cache:
        await cache.set("k", 1)
        here = await cache.get_metrics()
        server.kill()
        failed = 0
        for number in range(3):
            try:
                await cache.get(f"absent{number}")
            except BackendUnavailable:
                failed += 1
        away = await cache.get_metrics()
        server.start()
        async with asyncio.timeout(30):
            while not innermost(cache)._link.topology.nodes()[0].reconnects:  # noqa: ASYNC110 - the backend connects by itself
                await asyncio.sleep(0.05)
        back = await cache.get_metrics()

    assert value(here, "cache_up") == 1
    assert value(away, "cache_up") == value(away, "cache_server_up") == 0
    assert value(away, "cache_sets") == value(here, "cache_sets") == 1
    assert failed
    failures = {"operation": "read", "outcome": "unavailable"}
    assert value(away, "cache_operation_seconds", **failures) == failed
    assert value(back, "cache_up") == value(back, "cache_server_up") == 1
    assert value(back, "cache_reconnects") >= 1
