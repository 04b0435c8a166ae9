"""What a type checker knows of decorated functions. Never run: test_faces.py gives it to mypy."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type

from clusterdb.cache import AsyncCached, AsyncCachedMany, Cache, CachedMany, CacheInfo

cache = Cache()


@cache.cached("user:{number}", ttl="10m", tags=("user",))
async def load(number: int, *, fresh: bool = False) -> str:
    return str(number)


@cache.cached
def read(number: int) -> str:
    return str(number)


@cache.region("sums").cached()
def added(*numbers: int, **more: float) -> float:
    return sum(numbers) + sum(more.values())


class Shop:
    @cache.cached
    async def stock(self, item: int) -> str:
        return str(item)

    @cache.cached
    def price(self, item: int) -> float:
        return float(item)

    @classmethod
    @cache.cached
    def named(cls, name: str) -> bytes:
        return name.encode()


@cache.cached_many("user:{numbers}")
async def load_many(numbers: list[int]) -> dict[int, str]:
    return {}


@cache.sync.cached_many()
def read_many(numbers: list[int]) -> dict[int, str]:
    return {}


async def asynchronous(shop: Shop) -> None:
    assert_type(await load(5, fresh=True), str)
    assert_type(await load.refresh(5), str)
    assert_type(await load.peek(5), str | None)
    assert_type(await load.bypass(number=5), str)
    assert_type(await load.invalidate(5), bool)
    assert_type(load.key(5), str)
    assert_type(load.cache_info(), CacheInfo)
    assert_type(await shop.stock(5), str)
    assert_type(await shop.stock.refresh(5), str)
    assert_type(await load_many([1]), dict[int, str])
    assert_type(load_many, AsyncCachedMany[int, str])

    await load("5")  # type: ignore[arg-type]
    await load()  # type: ignore[call-arg]
    await load(5, True)  # type: ignore[call-arg]
    await load.refresh("5")  # type: ignore[arg-type]
    await load.peek(number="5")  # type: ignore[arg-type]
    await load.invalidate()  # type: ignore[call-arg]
    await shop.stock("5")  # type: ignore[arg-type]
    await load_many(["1"])  # type: ignore[list-item]


def synchronous(shop: Shop) -> None:
    assert_type(read(5), str)
    assert_type(added(1, 2, x=3.0), float)
    assert_type(shop.price(5), float)
    assert_type(shop.price.peek(5), float | None)
    assert_type(Shop.named("a"), bytes)
    assert_type(shop.named("a"), bytes)
    assert_type(read_many([1]), dict[int, str])
    assert_type(read_many, CachedMany[int, str])
    plain: Callable[[int], str] = read
    coroutine: Callable[[int], Coroutine[Any, Any, str]] = load
    kept: AsyncCached[..., str] = load
    print(plain, coroutine, kept)

    read("5")  # type: ignore[arg-type]
    read(5, 6)  # type: ignore[call-arg]
    read.key("5")  # type: ignore[arg-type]
    added("a")  # type: ignore[arg-type]
    shop.price("5")  # type: ignore[arg-type]
    Shop.named(5)  # type: ignore[arg-type]
    read_many(["1"])  # type: ignore[list-item]


cache.cached(5)  # type: ignore[call-overload]
cache.cached(ttl=[])  # type: ignore[call-overload]
cache.cached_many(5)  # type: ignore[arg-type]
