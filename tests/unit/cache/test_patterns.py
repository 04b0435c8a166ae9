"""Advice and recordings: what a cache tells of its own requests."""

import asyncio
import random
from itertools import cycle, islice

import pytest

from clusterdb.cache import LRU, Cache, CacheConfig, CachePolicy, NotSupported
from clusterdb.cache.cli.advise import advice_on
from clusterdb.cache.cli.traces import read_requests
from clusterdb.cache.entries import Entry
from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.profile import Profile
from clusterdb.cache.replay import replay
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.types import MISSING


def zipf(keys: int, requests: int, seed: int = 1) -> list[str]:
    weights = [1 / (rank + 1) for rank in range(keys)]
    names = [f"key:{number}" for number in range(keys)]
    return random.Random(seed).choices(names, weights, k=requests)


def test_the_curve_is_what_an_lru_of_the_size_hits():
    requests = zipf(20_000, 120_000)
    found = advice_on("trace", requests, "lru", 1000)
    for times, name in ((0.5, "half"), (1, "same"), (2, "double"), (10, "tenfold")):
        hit = replay(requests, "lru", int(1000 * times)) / len(requests)
        assert found.at[name] == pytest.approx(hit, abs=0.2), name


def test_a_loop_is_found_and_a_better_policy():
    requests = list(islice(cycle([f"key:{number}" for number in range(20_000)]), 100_000))
    found = advice_on("trace", requests, "lru", 8_000)

    assert found.loop == pytest.approx(20_000, rel=0.3)
    assert found.better is not None
    assert found.gain > 0.2
    assert found.at["same"] == pytest.approx(0, abs=0.1)


def test_a_scan_is_found():
    found = advice_on("trace", [str(number) for number in range(50_000)], "lru", 1000)

    assert found.scan == pytest.approx(1.0)
    assert found.loop is None


def test_hot_keys_are_found():
    requests = [
        key for pair in zip(zipf(5000, 50_000), cycle(["hot"]), strict=False) for key in pair
    ]
    found = advice_on("trace", requests, "adaptive", 1000)

    key, share = found.hot_keys[0]
    assert key == "hot"
    assert share == pytest.approx(0.55, abs=0.12)


def test_a_profile_stays_small():
    profile = Profile()
    for number in range(60_000):
        profile.came(Entry(f"key:{number}", None))

    assert len(profile._last) <= 1024
    assert len(profile._times) == len(profile._last) == len(profile._highest)
    assert profile.share < 0.05
    assert len(profile.recent()) <= 1 << 14


def test_too_few_requests_give_no_advice():
    found = advice_on("trace", ["a", "b", "a"], "lru", 10)

    assert (found.curve, found.at, found.better) == ((), {}, None)


async def test_a_running_cache_advises():
    config = CacheConfig(policy=CachePolicy(eviction=LRU(max_items=300)))
    async with Cache(config) as cache:
        for key in zipf(20_000, 60_000):
            if await cache.get(key, MISSING) is MISSING:
                await cache.set(key, 1)
        found = await cache.advise()

    assert (found.region, found.policy, found.size) == ("default", "lru", 300)
    assert found.at["same"] == pytest.approx(found.hit_ratio, abs=0.25)
    assert set(found.policies) >= {"lru", "adaptive", "s3fifo"}


async def test_requests_are_recorded_without_their_keys(tmp_path):
    clock = ManualClock()
    async with Cache(clock=clock) as cache:
        await cache.set("before", 1)
        task = asyncio.create_task(cache.record(tmp_path / "log", seconds=10, sample=1.0))
        while not _recording(cache):  # noqa: ASYNC110 - it opens its file in a thread
            await asyncio.sleep(0)
        for key in ("a", "b", "a", "before"):
            if await cache.get(key, MISSING) is MISSING:
                await cache.set(key, 1)
        clock.advance(20)
        assert await task == 4
        requests, share = read_requests(tmp_path / "log")

    assert share == 1.0
    assert requests[0] == requests[2]
    assert len(set(requests)) == 3
    assert b"before" not in (tmp_path / "log").read_bytes()


def _recording(cache: Cache) -> bool:
    table = cache._runtime.backend.table("default")
    assert table is not None
    return table._residents.profile.tap is not None


async def test_a_cache_that_answers_elsewhere_can_not_advise():
    cache = Cache.from_url("redis://127.0.0.1:1?near=0")
    with pytest.raises(NotSupported, match="keeps nothing in this process"):
        await cache.advise()
    await cache.aclose()


@pytest.mark.parametrize("sample", [0, -1, 1.5])
async def test_a_sample_is_a_share(tmp_path, sample):
    async with Cache() as cache:
        with pytest.raises(InvalidArgument, match="sample is a share"):
            await cache.record(tmp_path / "log", sample=sample)
