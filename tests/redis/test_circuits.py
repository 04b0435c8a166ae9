"""A circuit breaker round a real server that is killed, and started again."""

from __future__ import annotations

import asyncio

from tests.redis.servers import Server

from clusterdb.cache import (
    BackendUnavailable,
    BreakerConfig,
    Cache,
    CacheConfig,
    PoolConfig,
    Redis,
)


async def test_calls_fail_at_once_until_the_server_is_back(server: Server):
    redis = Redis(
        urls=(f"redis://127.0.0.1:{server.port}",),
        pool=PoolConfig(timeout=0.3, connect_timeout=0.3),
        breaker=BreakerConfig(failures=2, pause="300ms"),
    )
    async with Cache(CacheConfig(backend=redis)) as cache:
        await cache.set("k", "kept")
        server.freeze()
        errors = await asyncio.gather(
            *[cache.get(f"k{number}") for number in range(3)], return_exceptions=True
        )
        assert all(isinstance(error, BackendUnavailable) for error in errors)
        for _ in range(100):
            assert await cache.get_or_load("k", lambda: "from the origin") == "from the origin"
        circuit = cache._runtime.circuits[0]
        assert circuit.stats().refused >= 100
        server.thaw()

        async def back() -> object:
            while True:
                try:
                    return await cache.get("k")
                except BackendUnavailable:
                    await asyncio.sleep(0.05)

        assert await asyncio.wait_for(back(), 10) == "kept"
        assert circuit.stats().state == "closed"
