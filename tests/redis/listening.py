"""Caches that share a channel, and a look at what they hear."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.redis.backends import config_of
from tests.redis.servers import Deployment

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    EntrySet,
    Event,
    InvalidationConfig,
    NotificationConfig,
    PoolConfig,
    Redis,
    RedisChannel,
    RedisStream,
    Subscription,
)
from clusterdb.cache.events import INVALIDATIONS
from clusterdb.cache.events.routing import Traffic

__all__ = ["CHANNELS", "invalidation", "listened", "private", "shared", "the_next", "traffic"]

CHANNELS: dict[str, Callable[[Redis | None], RedisChannel | RedisStream]] = {
    "channel": lambda server: RedisChannel(channel="cache-invalidation", server=server),
    "stream": lambda server: RedisStream(stream="cache-invalidation", server=server),
}


def invalidation(kind: str, server: Redis | None = None, **settings: Any) -> InvalidationConfig:
    """Events over a channel of this kind."""
    events = settings.pop("events", None)
    chosen = {} if events is None else {"events": events}
    notification = NotificationConfig(backend=CHANNELS[kind](server), **chosen)
    return InvalidationConfig(notification=notification, **settings)


def private(kind: str, url: str, **settings: Any) -> Cache:
    """A cache in the memory of this process, with a channel on a server."""
    name = settings.pop("name", "test")
    server = Redis(urls=[url], pool=PoolConfig(timeout=1, connect_timeout=1))
    return Cache(
        CacheConfig(
            name=name,
            regions=[CacheRegion("other")],
            invalidation=invalidation(kind, server, **settings),
        )
    )


def shared(kind: str, deployment: Deployment, **settings: Any) -> Cache:
    """A cache on servers, with a channel on the same."""
    config = config_of(deployment, timeout=1, invalidation=invalidation(kind, **settings))
    return Cache(config)


@asynccontextmanager
async def listened(
    kind: str, deployment: Deployment
) -> AsyncIterator[tuple[Cache, Subscription[Event]]]:
    """A cache, and what another one hears of its changes."""
    async with (
        shared(kind, deployment) as one,
        shared(kind, deployment) as other,
        other.subscribe(*INVALIDATIONS, EntrySet) as events,
    ):
        yield one, events


async def the_next(events: Subscription[Any], within: float = 10.0) -> Any:
    """The next event."""
    return await asyncio.wait_for(anext(events), within)


def traffic(cache: Cache) -> Traffic:
    """What went over the channel of a cache."""
    found = cache.access.runtime.exchange.traffic
    assert found is not None
    return found
