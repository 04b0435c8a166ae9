"""Regions that share a total: it is kept at every moment, and moves to where it hits."""

import random
from itertools import pairwise

import pytest

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    ConfigError,
    Disk,
    EntryTooLarge,
    Memory,
)
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.codec import Encoded
from clusterdb.cache.near import NearTier
from clusterdb.cache.partition.hashing import hash64
from clusterdb.cache.settings import NearSettings
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.types import FOREVER, MISSING, Record

TOTAL = 400_000
REGIONS = (CacheRegion("busy"), CacheRegion("scan"))


class Steady(str):
    """A key with the same hash in each run. Who is in a sample, and so each share, hangs on it."""

    __slots__ = ()

    def __hash__(self) -> int:
        return int.from_bytes(hash64(self.encode()))


def config(total: int | str = TOTAL, *regions: CacheRegion) -> CacheConfig:
    return CacheConfig(backend=Memory(max_total_memory=total), regions=regions)


async def request(cache: Cache, region: str, key: str) -> None:
    face = cache.region(region)
    if await face.get(key, MISSING) is MISSING:
        await face.set(key, "x" * 100)


async def work(cache: Cache, clock: ManualClock, rounds: int) -> None:
    """Popular keys in one region, keys that never come again in another; looks in between."""
    draw = random.Random(1)
    weights = [1 / rank for rank in range(1, 1501)]
    backend = cache.access.runtime.backend
    assert isinstance(backend, MemoryBackend)
    for at in range(rounds):
        for number, key in enumerate(draw.choices(range(1500), weights, k=2000)):
            await request(cache, "busy", f"key:{key}")
            if number % 2:
                await request(cache, "scan", f"once:{at}:{number}")
        clock.advance(11)
        backend.relieve()
        while backend.sweep() or backend.sweeping:
            pass
        if backend.shares is not None:
            assert sum((await limits(cache)).values()) <= TOTAL


async def limits(cache: Cache) -> dict[str, int]:
    regions = (await cache.get_statistics()).regions
    for each in regions.values():
        assert each.max_weight is not None
        assert each.weight is not None
        assert each.weight <= each.max_weight
    return {name: each.max_weight or 0 for name, each in regions.items()}


async def test_sharing_hits_more_than_an_even_split():
    each = TOTAL // 3
    even = CacheConfig(regions=[CacheRegion(name, size=each) for name in ("busy", "scan")])
    clock = ManualClock()
    async with Cache(even, clock=clock) as cache:
        await work(cache, clock, 8)
        split = (await cache.get_statistics()).regions["busy"].hits
    async with Cache(config(TOTAL, *REGIONS), clock=clock) as cache:
        assert sum((await limits(cache)).values()) == TOTAL
        await work(cache, clock, 8)
        shared = (await cache.get_statistics()).regions["busy"].hits
        shares = await limits(cache)

    assert shared > split  # by how much differs with the hash seed: it decides who is in the sample
    assert shares["busy"] > 1.2 * each
    assert min(shares.values()) >= TOTAL // 30


async def test_a_region_gives_way_in_slices_and_nobody_has_it_twice():
    clock = ManualClock()
    async with Cache(config(TOTAL, *REGIONS), clock=clock) as cache:
        backend = cache.access.runtime.backend
        assert isinstance(backend, MemoryBackend)
        shares = backend.shares
        assert shares is not None
        for number in range(1000):
            await request(cache, "scan", str(number))
        full = (await cache.get_statistics()).regions["scan"].items or 0
        even = TOTAL // 3
        shares._wanted = {"default": even, "busy": 2 * even - 20_000, "scan": 20_000}
        left = [full]
        while backend.sweeping:
            shares.settle(backend._tables, 10)
            assert sum((await limits(cache)).values()) <= TOTAL
            left.append((await cache.get_statistics()).regions["scan"].items or 0)

        assert len(left) > 20
        assert max(before - after for before, after in pairwise(left)) <= 10
        assert await limits(cache) == {"default": even, "busy": 2 * even - 20_000, "scan": 20_000}


async def test_a_region_keeps_its_own_limits():
    own = CacheRegion("small", size=5000)
    async with Cache(config(TOTAL, own)) as cache:
        assert await limits(cache) == {"default": TOTAL - 5000, "small": 5000}
        with pytest.raises(EntryTooLarge):
            await cache.region("small").set("k", "x" * 6000)
        await cache.set("k", "x" * 6000)


async def test_a_region_that_is_added_gets_a_share_at_once():
    async with Cache(config()) as cache:
        for number in range(2000):
            await cache.set(str(number), "x" * 100)
        assert await limits(cache) == {"default": TOTAL}
        late = await cache.create_region(CacheRegion("late"))
        shares = await limits(cache)
        assert shares["late"] == pytest.approx(TOTAL / 3, rel=0.1)
        assert sum(shares.values()) <= TOTAL
        assert await late.set("k", "x" * 100)
        await cache.configure_regions([CacheRegion("late", size=1000)])
        assert (await limits(cache))["late"] == 1000


def test_near_tiers_share_a_total_too():
    tier, now = NearTier(0.0, 100_000), 0.0
    for region in ("busy", "scan"):
        tier.add(region, near(90_000), counted=False)
    tier.renew(now)
    draw = random.Random(1)
    weights = [1 / rank for rank in range(1, 1001)]
    for at in range(15):
        for number, key in enumerate(draw.choices(range(1000), weights, k=2000)):
            ask(tier, "busy", Steady(f"{key}"), now)
            if number % 2:
                ask(tier, "scan", Steady(f"{at}:{number}"), now)
        now += 11
        tier.renew(now)
        tier.sweep(now, 1000)
        assert sum(table.weight for _, table in tier.tables()) <= 100_000

    assert tier.table("busy").weight > 55_000
    assert 5000 <= tier.table("scan").weight <= 35_000
    assert not keep(tier, "scan", "large", 95_000, now)
    tier.add("busy", None, counted=False)
    assert tier.table("busy").weight == 0
    assert keep(tier, "scan", "large", 30_000, now)


def near(size: int) -> NearSettings:
    return NearSettings(max_items=None, max_weight=size, max_staleness=1.0)


def ask(tier: NearTier, region: str, key: str, now: float) -> None:
    if tier.table(region).get(key, now) is MISSING:
        assert keep(tier, region, key, 100, now)


def keep(tier: NearTier, region: str, key: str, size: int, now: float) -> bool:
    claim = tier.mark(region, key, "server", now)
    assert claim is not None
    value = Encoded(b"x" * (size - len(key)), 1, 0)
    record = Record(key, value, 1, None, (), "redis", near=(claim, FOREVER))
    tier.keep(region, record, "value", now)
    return tier.table(region).get(key, now) == "value"


@pytest.mark.parametrize("total", [0, -1, 19])
def test_a_total_has_something_for_each_region(total):
    with pytest.raises(ConfigError, match="max_total_memory"):
        config(total, CacheRegion("other"))


def test_a_near_total_has_something_for_each_region():
    with pytest.raises(ConfigError, match="near_total: 19B is too little for 2 regions"):
        CacheConfig(backend=Disk(path="x", near_total=19), regions=[CacheRegion("other")])


def test_the_total_is_read_from_a_file():
    text = "cache: {backend: {type: memory, max_total_memory: 512MB}}"

    assert CacheConfig.from_yaml_text(text).backend == Memory(max_total_memory=512_000_000)
