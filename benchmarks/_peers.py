"""The caches we compare with, each filled with the same keys and values, as its own documentation
recommends to use it, with a TTL where it knows one, and with room for all keys and no more.

A factory imports its peer, so that one which is not installed is left out and the rest still runs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from typing import Any

from _report import version
from _workload import TTL, tagged_chunks

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import Adaptive, CachePolicy

__all__ = ["AWAITED", "CALLED", "Peer", "ours"]

Data = dict[str, Any]
Call = Callable[[str], Any]
Await = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True)
class Peer:
    """A cache to compare with: how to fill it, and what it is made of."""

    name: str
    distribution: str
    fill: Callable[..., Any]
    written_in: str = ""
    slower: int = 1
    """A round makes so many times fewer requests of it."""

    @property
    def version(self) -> str:
        """The installed version."""
        return version(self.distribution) if self.distribution else ""

    @property
    def installed(self) -> bool:
        """Whether it can be measured."""
        return not self.distribution or bool(self.version)


def ours(count: int) -> Cache:
    """A cache with the default settings and room for ``count`` entries."""
    room = max(count, 1_000_000)
    return Cache(CacheConfig(policy=CachePolicy(eviction=Adaptive(max_items=room))))


def fill_ours(data: Data, stack: ExitStack) -> Call:
    """Fill ours with a TTL and two tags an entry."""
    cache = stack.enter_context(ours(len(data)).sync)
    for batch, tags in tagged_chunks(list(data), list(data.values())):
        cache.set_many(batch, ttl=TTL, tags=tags)
    return cache.get


async def fill_ours_async(data: Data) -> Await:
    """Fill ours inside a loop."""
    cache = ours(len(data))
    for batch, tags in tagged_chunks(list(data), list(data.values())):
        await cache.set_many(batch, ttl=TTL, tags=tags)
    return cache.get


def _dict(data: Data, _: ExitStack) -> Call:
    return dict(data).get


def _cachebox_vttl(data: Data, _: ExitStack) -> Call:
    cache = import_module("cachebox").VTTLCache(len(data))
    for key, value in data.items():
        cache.insert(key, value, TTL)
    return cache.get  # type: ignore[no-any-return]


def _cachebox_lru(data: Data, _: ExitStack) -> Call:
    return _updated(import_module("cachebox").LRUCache(len(data)), data)


def _cachetools_ttl(data: Data, _: ExitStack) -> Call:
    return _updated(import_module("cachetools").TTLCache(len(data), TTL), data)


def _cachetools_lru(data: Data, _: ExitStack) -> Call:
    return _updated(import_module("cachetools").LRUCache(len(data)), data)


def _functools(data: Data, _: ExitStack) -> Call:
    @lru_cache(maxsize=len(data))
    def load(key: str) -> Any:
        return data[key]

    for key in data:
        load(key)
    return load


def _lru_dict(data: Data, _: ExitStack) -> Call:
    return _updated(import_module("lru").LRU(len(data)), data)


def _theine(data: Data, stack: ExitStack) -> Call:
    cache = import_module("theine").Cache(len(data))
    stack.callback(cache.close)
    for key, value in data.items():
        cache.set(key, value, timedelta(seconds=TTL))
    return cache.get  # type: ignore[no-any-return]


def _moka(data: Data, _: ExitStack) -> Call:
    cache = import_module("moka_py").Moka(len(data), ttl=TTL)
    for key, value in data.items():
        cache.set(key, value)
    return cache.get  # type: ignore[no-any-return]


def _dogpile(data: Data, _: ExitStack) -> Call:
    make_region = import_module("dogpile.cache").make_region
    region = make_region().configure("dogpile.cache.memory", expiration_time=TTL)
    region.set_multi(data)
    return region.get  # type: ignore[no-any-return]


def _diskcache(data: Data, stack: ExitStack) -> Call:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    cache = stack.enter_context(import_module("diskcache").Cache(folder))
    with cache.transact():
        for key, value in data.items():
            cache.set(key, value, expire=TTL)
    return cache.get  # type: ignore[no-any-return]


def _updated(cache: Any, data: Data) -> Call:
    for key, value in data.items():
        cache[key] = value
    return cache.get  # type: ignore[no-any-return]


async def _cashews(data: Data) -> Await:
    cache = import_module("cashews").Cache()
    cache.setup("mem://", size=len(data))
    for key, value in data.items():
        await cache.set(key, value, expire=TTL)
    return cache.get  # type: ignore[no-any-return]


async def _aiocache(data: Data) -> Await:
    cache = import_module("aiocache").SimpleMemoryCache()
    await cache.multi_set(list(data.items()), ttl=TTL)
    return cache.get  # type: ignore[no-any-return]


async def _async_lru(data: Data) -> Await:
    @import_module("async_lru").alru_cache(maxsize=len(data), ttl=TTL)  # type: ignore[untyped-decorator]
    async def load(key: str) -> Any:
        return data[key]

    for key in data:
        await load(key)
    return load  # type: ignore[no-any-return]


CALLED = [
    Peer("dict.get", "", _dict, "C"),
    Peer("cachebox LRUCache", "cachebox", _cachebox_lru, "Rust"),
    Peer("cachebox VTTLCache", "cachebox", _cachebox_vttl, "Rust"),
    Peer("lru-dict", "lru-dict", _lru_dict, "C"),
    Peer("functools.lru_cache", "", _functools, "C"),
    Peer("moka-py", "moka-py", _moka, "Rust"),
    Peer("cachetools LRUCache", "cachetools", _cachetools_lru, "Python"),
    Peer("cachetools TTLCache", "cachetools", _cachetools_ttl, "Python"),
    Peer("dogpile memory", "dogpile.cache", _dogpile, "Python"),
    Peer("theine", "theine", _theine, "Python, Rust"),
    Peer("diskcache", "diskcache", _diskcache, "Python, SQLite", 10),
]
"""Peers that are called."""

AWAITED = [
    Peer("async-lru", "async-lru", _async_lru, "Python"),
    Peer("cashews memory", "cashews", _cashews, "Python", 2),
    Peer("aiocache memory", "aiocache", _aiocache, "Python", 8),
]
"""Peers that are awaited."""
