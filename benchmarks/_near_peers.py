"""The near caches of other libraries, and ours, behind one small face: get, set, drop and load.

Each is set up as its documentation says, with calls that end after a second where it can be told
so, and with a TTL of ten minutes where it keeps one. ``load`` is absent where there is nothing to
load with: a client of Redis, not a cache.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["OURS", "PEERS", "Near", "Peer"]

HOST = "127.0.0.1"
TTL = 600
TIMEOUT = 1.0
OURS = "clusterdb"

Loader = Callable[[], Awaitable[str]]


@dataclass(frozen=True)
class Near:
    """One process's cache: what a peer gives to do."""

    get: Callable[[str], Awaitable[str | None]]
    set: Callable[[str, str], Awaitable[Any]]
    drop: Callable[[str], Awaitable[Any]]
    load: Callable[[str, Loader], Awaitable[str]] | None = None


@dataclass(frozen=True)
class Peer:
    """A library; ``opened(port)`` is one process's cache. ``note`` says how it was set up."""

    distribution: str
    module: str
    opened: Callable[[int], AbstractAsyncContextManager[Near]]
    note: str = ""

    @property
    def missing(self) -> str:
        """Why it can't be run here; empty if it can."""
        if find_spec(self.module.partition(".")[0]) is not None:
            return ""
        needs = " (needs Python 3.12)" if self.module == "async_hybrid_cache" else ""
        return f"{self.distribution} is not installed for {sys.version.split()[0]}{needs}"


@asynccontextmanager
async def _ours(port: int) -> AsyncIterator[Near]:
    from clusterdb.cache import Cache, CacheConfig
    from clusterdb.cache.config import PoolConfig, Redis

    pool = PoolConfig(timeout=TIMEOUT, connect_timeout=TIMEOUT)
    backend = Redis(urls=[f"redis://{HOST}:{port}"], near=True, pool=pool)
    async with Cache(CacheConfig(name="near", backend=backend)) as cache:

        async def load(key: str, loader: Loader) -> str:
            return await cache.get_or_load(key, loader, ttl=TTL)

        async def put(key: str, value: str) -> None:
            await cache.set(key, value, ttl=TTL)

        yield Near(cache.get, put, cache.invalidate, load)


def _cashews(protocol: int | None) -> Callable[[int], AbstractAsyncContextManager[Near]]:
    @asynccontextmanager
    async def opened(port: int) -> AsyncIterator[Near]:
        cache = import_module("cashews").Cache()
        other = {} if protocol is None else {"protocol": protocol}
        cache.setup(f"redis://{HOST}:{port}/0", client_side=True, socket_timeout=TIMEOUT, **other)
        await cache.init()
        loads: dict[str, Any] = {}

        async def load(key: str, loader: Loader) -> str:
            if key not in loads:

                @cache(ttl=TTL, key=f"load:{key}")
                async def call() -> str:
                    return await loader()

                loads[key] = call
            value: str = await loads[key]()
            return value

        async def drop(key: str) -> None:
            await cache.delete(key)
            await cache.delete(f"load:{key}")

        async def put(key: str, value: str) -> None:
            await cache.set(key, value, expire=TTL)

        yield Near(cache.get, put, drop, load)
        await cache.close()

    return opened


@asynccontextmanager
async def _redis_py(port: int) -> AsyncIterator[Near]:
    redis = import_module("redis")
    settings = import_module("redis.cache").CacheConfig()
    # It refuses servers before 7.4; what it needs of them is there since 6.
    import_module("redis.connection").CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"
    client = redis.Redis(
        host=HOST,
        port=port,
        protocol=3,
        cache_config=settings,
        socket_timeout=TIMEOUT,
        decode_responses=True,
    )

    async def get(key: str) -> str | None:
        value: str | None = await asyncio.to_thread(client.get, key)
        return value

    async def put(key: str, value: str) -> None:
        await asyncio.to_thread(client.set, key, value, ex=TTL)

    async def drop(key: str) -> None:
        await asyncio.to_thread(client.delete, key)

    yield Near(get, put, drop)
    await asyncio.to_thread(client.close)


@asynccontextmanager
async def _glide(port: int) -> AsyncIterator[Near]:
    glide = import_module("glide")
    kind = import_module("glide_shared.cache").ClientSideCache
    near = kind.create(max_cache_kb=1024, entry_ttl_ms=TTL * 1000, server_assisted=True)
    config = glide.GlideClientConfiguration(
        [glide.NodeAddress(HOST, port)],
        request_timeout=round(TIMEOUT * 1000),
        client_side_cache=near,
    )
    client = await glide.GlideClient.create(config)
    expiry = glide.ExpirySet(glide.ExpiryType.SEC, TTL)

    async def get(key: str) -> str | None:
        value = await client.get(key)
        return None if value is None else value.decode()

    async def put(key: str, value: str) -> None:
        await client.set(key, value, expiry=expiry)

    async def drop(key: str) -> None:
        await client.delete([key])

    yield Near(get, put, drop)
    await client.close()


@asynccontextmanager
async def _coredis(port: int) -> AsyncIterator[Near]:
    coredis = import_module("coredis")
    near = import_module("coredis.patterns.cache").LRUCache()
    # A time-out on its streams ends its listener as well, and the listener cancels the caller.
    async with coredis.Redis(host=HOST, port=port, cache=near, decode_responses=True) as client:

        async def put(key: str, value: str) -> None:
            await client.set(key, value, ex=TTL)

        async def drop(key: str) -> None:
            await client.delete([key])

        yield Near(client.get, put, drop)


@asynccontextmanager
async def _hybrid(port: int) -> AsyncIterator[Near]:
    module = import_module("async_hybrid_cache")
    redis = import_module("redis.asyncio")
    # Its listener waits for five seconds in one read, so the connection must.
    store = redis.Redis(host=HOST, port=port, socket_timeout=TIMEOUT)
    listener = redis.Redis(host=HOST, port=port)
    cache = module.AsyncHybridCache(
        distributed_cache=module.RedisDistributedCache(store),
        invalidation_bus=module.RedisStreamsInvalidationBus(listener),
        options=module.CacheOptions(ttl_seconds=TTL),
    )
    await cache.start()
    yield Near(cache.get, cache.set, cache.remove, cache.get_or_set)
    await cache.stop()
    await store.aclose()
    await listener.aclose()


PEERS: dict[str, Peer] = {
    OURS: Peer("clusterdb-cache", "clusterdb.cache", _ours),
    "cashews": Peer("cashews", "cashews", _cashews(None), "client_side=True"),
    "cashews, RESP2": Peer("cashews", "cashews", _cashews(2), "client_side=True, protocol=2"),
    "async-hybrid-cache": Peer(
        "async-hybrid-cache", "async_hybrid_cache", _hybrid, "Redis, invalidations by a stream"
    ),
    "redis-py": Peer(
        "redis", "redis", _redis_py, "cache_config=CacheConfig(), its check of the version lifted"
    ),
    "valkey-glide": Peer("valkey-glide", "glide", _glide, "server_assisted=True"),
    "coredis": Peer("coredis", "coredis", _coredis, "cache=LRUCache()"),
}
