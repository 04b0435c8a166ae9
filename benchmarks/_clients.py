"""The Redis clients that the bench of Redis compares: how each is opened, reads and writes a key.

A factory imports its client, so that one which is not installed is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import msgspec
from _report import version
from _workload import TTL

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import Redis

__all__ = [
    "AGAIN",
    "COREDIS",
    "GLIDE",
    "HOST",
    "OURS",
    "PEERS",
    "PIPELINE",
    "REDIS_PY",
    "Get",
    "Holder",
    "Put",
    "Subject",
    "open_subject",
]

OURS, AGAIN = "clusterdb", "clusterdb again"
REDIS_PY, PIPELINE, GLIDE, COREDIS = "redis-py", "redis-py pipelines", "valkey-glide", "coredis"
HOST = "127.0.0.1"
CONNECTIONS = 512
PATIENCE = 30

Get = Callable[[str], Awaitable[Any]]
Put = Callable[[str, Any], Awaitable[Any]]


@dataclass(frozen=True)
class Subject:
    """A client, with how it reads and writes one key; ``many`` reads several in one round trip."""

    get: Get
    put: Put
    many: Callable[[Sequence[str]], Awaitable[Sequence[Any]]] | None = None
    distribution: str = ""


encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


def decoded(data: bytes | None) -> Any:
    return None if data is None else decode(data)


async def ours(stack: AsyncExitStack, ports: Sequence[int], cluster: bool, name: str) -> Subject:
    urls = [f"redis://{HOST}:{port}" for port in ports]
    config = CacheConfig(name=name, backend=Redis(urls=urls, cluster=cluster, near=False))
    cache = await stack.enter_async_context(Cache(config))
    return Subject(cache.get, partial(cache.set, ttl=TTL))


async def redis_py(
    stack: AsyncExitStack, ports: Sequence[int], cluster: bool, connections: int = CONNECTIONS
) -> Subject:
    module = import_module("redis.asyncio")
    kind = module.RedisCluster if cluster else module.Redis
    client = kind(
        host=HOST,
        port=ports[0],
        max_connections=connections,
        socket_timeout=PATIENCE,  # after its own, of five seconds, it fails on a busy machine
        socket_connect_timeout=PATIENCE,
    )
    stack.push_async_callback(client.aclose)

    async def get(key: str) -> Any:
        return decoded(await client.get(key))

    async def put(key: str, value: Any) -> None:
        await client.set(key, encode(value), ex=TTL)

    async def many(keys: Sequence[str]) -> list[Any]:
        pipeline = client.pipeline() if cluster else client.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
        return [decoded(data) for data in await pipeline.execute()]

    return Subject(get, put, many, "redis")


async def glide(stack: AsyncExitStack, ports: Sequence[int], cluster: bool) -> Subject:
    module = import_module("glide")
    addresses = [module.NodeAddress(HOST, port) for port in ports]
    room = {"request_timeout": 1000 * PATIENCE, "inflight_requests_limit": 20_000}
    if cluster:
        settings = module.GlideClusterClientConfiguration(addresses, **room)
        client = await module.GlideClusterClient.create(settings)
    else:
        settings = module.GlideClientConfiguration(addresses, **room)
        client = await module.GlideClient.create(settings)
    stack.push_async_callback(client.close)
    expiry = module.ExpirySet(module.ExpiryType.SEC, TTL)

    async def get(key: str) -> Any:
        return decoded(await client.get(key))

    async def put(key: str, value: Any) -> None:
        await client.set(key, encode(value), expiry=expiry)

    return Subject(get, put, None, "valkey-glide")


async def coredis(stack: AsyncExitStack, ports: Sequence[int], cluster: bool) -> Subject:
    module = import_module("coredis")
    kind = module.RedisCluster if cluster else module.Redis
    client = await stack.enter_async_context(kind(host=HOST, port=ports[0]))

    async def get(key: str) -> Any:
        return decoded(await client.get(key))

    async def put(key: str, value: Any) -> None:
        await client.set(key, encode(value), ex=TTL)

    return Subject(get, put, None, "coredis")


PEERS: dict[str, tuple[str, Callable[..., Awaitable[Subject]]]] = {
    REDIS_PY: ("redis", redis_py),
    GLIDE: ("valkey-glide", glide),
    COREDIS: ("coredis", coredis),
}


async def open_subject(
    stack: AsyncExitStack, name: str, ports: Sequence[int], cluster: bool, **settings: Any
) -> Subject:
    """One client, closed with the stack."""
    if name in PEERS:
        return await PEERS[name][1](stack, ports, cluster, **settings)
    return await ours(stack, ports, cluster, "again" if name == AGAIN else "once")


@asynccontextmanager
async def subjects(ports: Sequence[int], cluster: bool) -> AsyncIterator[dict[str, Subject]]:
    async with AsyncExitStack() as stack:
        installed = [name for name, (distribution, _) in PEERS.items() if version(distribution)]
        yield {
            name: await open_subject(stack, name, ports, cluster)
            for name in (OURS, AGAIN, *installed)
        }


class Holder:
    """Opens and closes the clients in one task, as some of them want it."""

    def __init__(self, ports: Sequence[int], cluster: bool) -> None:
        self._where = ports, cluster
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> dict[str, Subject]:
        self._done = asyncio.Event()
        made: asyncio.Future[dict[str, Subject]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(made))
        await asyncio.wait([made, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        return made.result()

    async def _hold(self, made: asyncio.Future[dict[str, Subject]]) -> None:
        async with subjects(*self._where) as opened:
            made.set_result(opened)
            await self._done.wait()

    async def aclose(self) -> None:
        self._done.set()
        if self._task is not None:
            await self._task
