"""A cache with something going on in it, to look at the admin page: a small shop that never rests.

The keys are asked for as keys are: few of them often, most of them seldom. Nothing leaves the
process; the "database" is a pause.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any, Final

from clusterdb.cache import (
    LRU,
    AlertConfig,
    Cache,
    CacheConfig,
    CacheRegion,
    CacheStatistics,
    MetricsConfig,
    MonitoringConfig,
    Region,
)

__all__ = ["demo_cache", "keep_busy"]

_PRODUCTS: Final = 20_000
_USERS: Final = 5_000
_PAUSE: Final = 0.02
_AT_ONCE: Final = 40


def demo_cache() -> Cache:
    """The cache of the shop, in memory, not started."""
    return Cache(
        CacheConfig(
            name="demo",
            monitoring=MonitoringConfig(statistics=CacheStatistics(interval=2)),
            metrics=MetricsConfig(
                alerts=AlertConfig(max_eviction_rate=150, max_memory_usage=0.98, recovery=20)
            ),
            regions=(
                CacheRegion("product", policy=LRU(max_items=3_000), ttl="10m"),
                CacheRegion("session", size="400kB", ttl="30s"),
                CacheRegion("page", ttl="8s"),
            ),
        )
    )


async def keep_busy(cache: Cache) -> None:
    """Ask, store and invalidate until cancelled: some two thousand requests a second."""
    products, sessions = cache.region("product"), cache.region("session")
    pages, chance = cache.region("page"), random.Random(5)
    turn = 0
    while True:
        turn += 1
        await asyncio.gather(*[_visit(products, pages, chance) for _ in range(_AT_ONCE)])
        user = _rank(chance, _USERS)
        await sessions.set(f"session:{user}", {"user": user, "cart": ["lamp"] * (user % 20)})
        await sessions.get(f"session:{_rank(chance, _USERS)}")
        if turn % 50 == 0:
            await products.invalidate(f"product:{_rank(chance, _PRODUCTS)}")
        if turn % 400 == 0:
            await cache.invalidate_tag(f"category:{chance.randrange(20)}")
        await asyncio.sleep(_PAUSE)


async def _visit(products: Region[Any], pages: Region[Any], chance: random.Random) -> None:
    number = _rank(chance, _PRODUCTS)
    await products.get_or_load(
        f"product:{number}", partial(_product, number, chance), tags=(f"category:{number % 20}",)
    )
    if number < 40:
        await pages.get_or_load(f"page:/product/{number}", partial(_page, number), tags=("page",))


async def _product(number: int, chance: random.Random) -> dict[str, Any]:
    await asyncio.sleep(chance.uniform(0.002, 0.012))
    return {"id": number, "name": f"Product {number}", "price": 5 + number % 90, "stock": 12}


async def _page(number: int) -> str:
    await asyncio.sleep(0.004)
    return f"<h1>Product {number}</h1>" + "<p>In stock.</p>" * 20


def _rank(chance: random.Random, most: int) -> int:
    """A number below ``most``; the lower, the more likely."""
    return min(most - 1, int(most ** chance.random()) - 1)
