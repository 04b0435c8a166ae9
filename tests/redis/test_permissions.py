"""The permissions that docs/howto/redis.md names are enough, and none is too much."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.redis.proxy import FaultProxy
from tests.redis.servers import MASTER, Deployment, Server, wait_until
from tests.redis.test_limits import FAST

from clusterdb.cache import (
    LFU,
    LRU,
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    OutcomeUnknown,
    PoolConfig,
    Redis,
    ReplicationConfig,
    SentinelConfig,
)
from clusterdb.cache.backends.redis import RedisBackend, membership, sweeping
from clusterdb.cache.claims import Claim
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.protocols import Exported, Written
from clusterdb.cache.testing import EncodingBackend
from clusterdb.cache.testing.conformance import region_settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "redis.md"
USER, PASSWORD = "shop-cache", "shop-secret"


def rule() -> list[str]:
    """The words of the page's ``ACL SETUSER``, for our user."""
    text = PAGE.read_text(encoding="utf-8").partition("<!-- acl:")[2]
    words = text.partition("```text\n")[2].partition("```")[0].split()
    assert words[:3] == ["ACL", "SETUSER", "cache"]
    return ["ACL", "SETUSER", USER, *[word.replace("PASSWORD", PASSWORD) for word in words[3:]]]


def also(what: str) -> list[str]:
    """What the page's table adds for a purpose."""
    [line] = [
        line
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| {what}")
    ]
    return re.findall(r"\+[a-z|-]+", line.replace("\\|", "|"))


def grant(servers: Sequence[Server], words: list[str]) -> None:
    for server in servers:
        assert server.cli(*words) == "OK"
        server.cli("ACL", "LOG", "RESET")
        if server.program == "redis-server":
            server.cli("CONFIG", "RESETSTAT")


def used(servers: Sequence[Server]) -> set[str]:
    """The commands that were called on any of the servers, scripts among their callers."""
    lines = [line for server in servers for line in server.info("commandstats")]
    return {line.removeprefix("cmdstat_") for line in lines if line.startswith("cmdstat_")}


def refused(servers: Sequence[Server]) -> list[str]:
    return [said for server in servers if (said := server.cli("ACL", "LOG"))]


@pytest.fixture
def granted(standalone: Deployment, cluster: Deployment, sentinel: Deployment) -> Iterator[None]:
    yield
    for each in (standalone, cluster, sentinel):
        for server in [*each.servers, *each.sentinels]:
            server.cli("ACL", "DELUSER", USER)


async def everything(config: CacheConfig) -> None:
    """Every operation of the cache, in every kind of region that it has."""
    async with Cache(config) as cache:
        await cache.clear()
        for name in cache.regions:
            region = cache.region(name)
            await region.set("{k}a", 1, ttl=60, tags=("t",))
            await region.set("{k}b", 2, nx=True)
            await region.set("{k}b", 3, xx=True, keep_ttl=True)
            await region.set("{k}foreign", 1)
            assert await region.get_many(["{k}a", "{k}b"]) == {"{k}a": 1, "{k}b": 3}
            assert await region.lookup("{k}a")
            assert await region.exists("{k}a")
            await move(cache, name)
            await region.touch("{k}a", 90)
            await region.touch("{k}a", None)
            assert await region.increment("{k}n", 1, initial=5, ttl=60) == 6
            assert await region.increment("{k}n", 1) == 7
            done = region.atomic().check("{k}b", 3).set("{k}b", 4).delete("{k}foreign")
            assert await done.execute()
            assert await region.get_or_load("{k}load", lambda: 8, ttl=60, tags=("t",)) == 8
            await asyncio.gather(*[region.get_or_load("{k}both", slowly) for _ in range(3)])
            assert {key async for key in region.scan("{k}*")} >= {"{k}a", "{k}b"}
            await region.set("{k}grace", 1, ttl=0.01)
            await asyncio.sleep(0.02)
            assert await region.get_or_load("{k}grace", lambda: 9) == 9
            await region.invalidate("{k}load")
            await region.delete("{k}b")
            await region.set_many({f"{{k}}{at}": at for at in range(30)}, ttl=60)
            await cache.invalidate_tag("t")
            assert await region.get("{k}a") is None
        await cache.get_statistics()
        assert (await cache.get_health()).status
        await cache.clear()


async def move(cache: Cache, region: str) -> None:
    """Entries out and in again."""
    backend = cache.access.runtime.backend
    async for batch in backend.export(region):
        entries = [each for each in batch if isinstance(each, Exported)]
        assert len(entries) == len(batch) > 0
        for outcome in await backend.restore(region, entries, overwrite="always"):
            assert isinstance(outcome, Written)


async def a_long_load(redis: Redis, config: CacheConfig, renewed: Callable[[], bool]) -> None:
    """A load that outlives the lease of its claim."""
    backend = EncodingBackend(RedisBackend(redis, config, SystemClock()))
    backend.configure({"main": region_settings("main")})
    await backend.open()
    [claim] = await backend.claim("main", ["long"], (), 0.3)
    assert isinstance(claim, Claim)
    await asyncio.to_thread(wait_until, renewed, "a claim that is renewed")
    await backend.release("main", [claim])
    await backend.aclose()


async def slowly() -> int:
    await asyncio.sleep(0.05)
    return 1


def regions(*, limits: bool) -> tuple[CacheRegion, ...]:
    found = (
        CacheRegion("graced", grace=60),
        CacheRegion("instant", instant_clear=True),
    )
    limited = (
        CacheRegion("few", policy=LRU(max_items=10)),
        CacheRegion("often", policy=LFU(max_items=10)),
        CacheRegion("small", size="10kB"),
    )
    return (*found, *limited) if limits else found


def names(words: Sequence[str]) -> set[str]:
    return {word[1:] for word in words if word.startswith("+")}


@pytest.mark.usefixtures("granted")
async def test_on_one_server_they_are_enough_and_none_is_too_much(standalone, monkeypatch):
    monkeypatch.setattr(membership, "FIRST", 0.01)
    near = also("the near tier")
    grant(standalone.servers, [*rule(), *near])
    url = f"{standalone.urls[0]}/1"
    backend = Redis(urls=[url], username=USER, password=PASSWORD)
    config = CacheConfig(name="shop", backend=backend, regions=regions(limits=False))
    await everything(config)
    await a_long_load(backend, config, lambda: "setrange" in used(standalone.servers))
    async with Cache(config) as cache, asyncio.timeout(5):
        runtime = cache.access.runtime
        while not (await runtime.backend.describe()).members:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    assert refused(standalone.servers) == []
    assert names([*rule(), *near]) - used(standalone.servers) == set()


@pytest.mark.usefixtures("granted")
async def test_a_lost_write_needs_what_is_said(standalone):
    grant(standalone.servers, [*rule(), *also("the near tier"), *also("writes without")])
    async with FaultProxy(standalone.servers[0].port) as through:
        pool = PoolConfig(timeout=0.3)
        backend = Redis(urls=[through.url], username=USER, password=PASSWORD, pool=pool)
        async with Cache(CacheConfig(name="shop", backend=backend)) as cache:
            through.hold = True
            with pytest.raises(OutcomeUnknown):
                await cache.set("k", 1)
            through.hold = False
            await cache.set("k", 2)

    assert refused(standalone.servers) == []
    assert "client|kill" in used(standalone.servers)


@pytest.mark.usefixtures("granted")
async def test_limits_need_what_is_said_and_no_more(standalone, monkeypatch):
    monkeypatch.setattr(sweeping, "Pace", lambda: FAST)
    limits = also("regions with limits")
    grant(standalone.servers, [*rule(), *limits, *also("the near tier")])
    backend = Redis(urls=standalone.urls, username=USER, password=PASSWORD)
    config = CacheConfig(name="shop", backend=backend, regions=regions(limits=True))
    await everything(config)
    async with Cache(config) as cache, asyncio.timeout(30):
        number = 0
        while names(limits) - used(standalone.servers):
            for name in ("few", "often", "small"):
                region = cache.region(name)
                keys = [f"{number}:{at}" for at in range(20)]
                await region.set_many(dict.fromkeys(keys, "x" * 100), ttl=0.3)
                await region.get_many(keys)
            number += 1
            await asyncio.sleep(0.1)

    assert refused(standalone.servers) == []


@pytest.mark.usefixtures("granted")
async def test_a_cluster_with_replication_needs_what_is_said_and_no_more(cluster):
    more = [*also("Cluster"), *also("`coherence.replication`"), *also("reads from replicas")]
    grant(cluster.servers, [*rule(), *more])
    backend = Redis(
        urls=cluster.urls,
        cluster=True,
        username=USER,
        password=PASSWORD,
        read_replicas=True,
        max_replica_lag=0.1,
    )
    replication = ReplicationConfig(mode="synchronous", factor=2, consistency="all")
    coherence = CacheCoherence(replication=replication, consistency="eventual")
    config = CacheConfig(name="shop", backend=backend, coherence=coherence)
    await everything(config)
    async with Cache(config) as cache:
        await cache.set("k", 1)
        await asyncio.sleep(0.5)
        assert await cache.get("k") == 1

    assert refused(cluster.servers) == []
    assert names(more) - used(cluster.servers) <= {"asking"}


@pytest.mark.usefixtures("granted")
async def test_sentinel_needs_what_is_said(sentinel):
    on_servers, on_sentinels = (
        [word for word in also("Sentinel") if ("sentinel" in word) is at_sentinel]
        for at_sentinel in (False, True)
    )
    grant(sentinel.servers, [*rule(), *on_servers, *also("the near tier")])
    plain = [word for word in rule() if word[0] != "+" or word in ("+hello", "+client|id")]
    grant(sentinel.sentinels, [*plain, *on_sentinels])
    named = SentinelConfig(master=MASTER, username=USER, password=PASSWORD)
    backend = Redis(urls=sentinel.urls, sentinel=named, username=USER, password=PASSWORD)
    await everything(CacheConfig(name="shop", backend=backend))

    assert refused([*sentinel.servers, *sentinel.sentinels]) == []
    assert names(on_servers) <= used(sentinel.servers)
