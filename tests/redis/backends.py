"""Backends on the servers of the fixtures, and a look at these servers past the backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.redis.servers import MASTER, PASSWORD, USER, Deployment

from clusterdb.cache.backends.redis import RedisBackend
from clusterdb.cache.clock import Clock, SystemClock
from clusterdb.cache.config import (
    CacheConfig,
    CacheRegion,
    PoolConfig,
    Redis,
    SentinelConfig,
    TlsConfig,
)
from clusterdb.cache.settings import resolve_region
from clusterdb.cache.testing import EncodingBackend

__all__ = ["config_of", "flush", "make_backend", "opened"]


def config_of(deployment: Deployment, *, timeout: float = 5.0, **settings: Any) -> CacheConfig:
    """A configuration for the servers of a deployment."""
    secured: dict[str, Any] = {}
    if deployment.certificates is not None:
        names = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
        files = {file: str(deployment.certificates / name) for file, name in names.items()}
        secured = {"username": USER, "password": PASSWORD, "tls": TlsConfig(**files)}
    redis = Redis(
        urls=deployment.urls,
        cluster=deployment.kind == "cluster",
        sentinel=SentinelConfig(master=MASTER) if deployment.kind == "sentinel" else None,
        pool=PoolConfig(timeout=timeout, connect_timeout=2),
        **secured,
    )
    return CacheConfig(name="test", backend=redis, **settings)


def make_backend(
    deployment: Deployment, clock: Clock | None = None, **settings: Any
) -> RedisBackend:
    config = config_of(deployment, **settings)
    assert isinstance(config.backend, Redis)
    return RedisBackend(config.backend, config, clock or SystemClock())


@asynccontextmanager
async def opened(
    deployment: Deployment, *, grace: float = 0.0, **settings: Any
) -> AsyncIterator[EncodingBackend]:
    """An open backend with one region, ``main``, that is given plain values."""
    backend = EncodingBackend(make_backend(deployment, **settings))
    region = CacheRegion("main", grace=grace)
    backend.configure({"main": resolve_region(config_of(deployment, **settings), region, None)})
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def flush(deployment: Deployment) -> None:
    """Empty every primary."""
    for server in deployment.servers:
        if not server.ask("FLUSHALL").startswith(("+OK", "-READONLY")):
            raise RuntimeError(f"can't flush {server.port}")
