"""The near tier over Redis: what a process keeps is what the servers have, or at most a bound old.

Two caches on the same servers are two processes to each other: they share nothing but the servers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.layers import innermost
from tests.redis.backends import config_of, flush
from tests.redis.conftest import now
from tests.redis.load import until
from tests.redis.proxy import FaultProxy
from tests.redis.servers import HOST, Deployment, Server, start

from clusterdb.cache import (
    LRU,
    BackendUnavailable,
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    ConfigError,
    Consistent,
    GetOptions,
    Hit,
    Miss,
    NearConfig,
    NotSupportedOnRing,
    PartitioningConfig,
    Redis,
    Region,
    Warmed,
    WarmStart,
)
from clusterdb.cache.backends.redis import RedisBackend, nearby, succession
from clusterdb.cache.backends.redis.sweeping import Pace
from clusterdb.cache.config import PoolConfig
from clusterdb.cache.failpoints import FAILPOINTS
from clusterdb.cache.transport import Endpoint, Node

BOUND = 1.0
CONSISTENT = GetOptions(consistent=True)


@asynccontextmanager
async def caches(
    deployment: Deployment, number: int = 2, **settings: Any
) -> AsyncIterator[list[Cache]]:
    """Caches on the same servers, which track them all."""
    async with AsyncExitStack() as stack:
        config = config_of(deployment, **settings)
        made = [await stack.enter_async_context(Cache(config)) for _ in range(number)]
        for cache in made:
            await tracks(cache)
        yield made


def backend_of(cache: Cache) -> RedisBackend:
    backend = innermost(cache)
    assert isinstance(backend, RedisBackend)
    return backend


async def tracks(cache: Cache) -> None:
    """Wait until it would keep what it reads."""
    nearby = backend_of(cache)._nearby
    await until(
        lambda: nearby._tracked and all(each.vouches for each in nearby._tracked.values()),
        within=10,
    )


def marks(cache: Cache) -> int:
    """How many reads are on their way that could be kept."""
    claims = backend_of(cache)._nearby.tier.table("default")._claims._claims
    return sum(claim.live() for claim in claims.values())


async def tier(cache: Cache, key: str) -> str:
    return await tier_of(cache, key)


async def tier_of(region: Region[Any], key: str) -> str:
    found = await region.lookup(key)
    return found.tier if isinstance(found, Hit) else "miss"


async def kept(cache: Cache, key: str) -> Any:
    """Read a key until it is near; its value."""
    async with asyncio.timeout(5):
        while await tier(cache, key) != "near":  # noqa: ASYNC110
            await asyncio.sleep(0)
    return await cache.get(key)


async def comes(read: Callable[[], Awaitable[object]], wanted: object) -> None:
    """Wait until a read gives ``wanted``: at most the bound, and a second for the machine."""
    async with asyncio.timeout(BOUND + 1):
        while await read() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture(params=["standalone", "cluster", "sentinel", "ring", "tls"])
def servers(request):
    deployment = request.getfixturevalue(request.param)
    if deployment.kind not in ("tls", "sentinel"):
        flush(deployment)
    return deployment


@pytest.fixture
async def pair(standalone):
    flush(standalone)
    async with caches(standalone) as made:
        yield made


async def test_the_first_heartbeat_is_enough(standalone, monkeypatch):
    """The second one comes a third of the bound later: a long time for a process that starts."""
    monkeypatch.setattr(nearby, "_TICK", 3600.0)
    backend = Redis(urls=standalone.urls, max_staleness=60)
    async with Cache(CacheConfig(name="test", backend=backend)) as cache:
        await tracks(cache)


class TestEverywhere:
    async def test_what_was_read_is_answered_here_until_another_changes_it(self, servers):
        async with caches(servers) as (one, other):
            for change in ("set", "delete", "invalidate", "touch", "increment", "clear"):
                key = f"user:{change}"
                await one.set(key, 1, ttl=60)
                assert await kept(other, key) == 1
                if change == "set":
                    await one.set(key, 2)
                    await comes(lambda: other.get(key), 2)  # noqa: B023
                elif change == "touch":
                    await one.touch(key, 30)
                    found = await other.lookup(key, options=CONSISTENT)
                    assert isinstance(found, Hit)
                    assert found.expires_in is not None
                    assert found.expires_in <= 30
                elif change == "increment":
                    await one.increment(key)
                    await comes(lambda: other.get(key), 2)  # noqa: B023
                else:
                    await (one.clear() if change == "clear" else getattr(one, change)(key))
                    await comes(lambda: other.get(key), None)  # noqa: B023

    async def test_a_process_reads_its_own_writes_at_once(self, servers):
        async with caches(servers, 1) as [cache]:
            for number in range(200):
                await cache.set("k", number, tags=("t",))
                assert await cache.get("k") == number
                assert await cache.get("k") == number
                if number % 3 == 0:
                    assert await cache.increment("k") == number + 1
                    assert await cache.get("k") == number + 1
                if number % 4 == 0:
                    await cache.invalidate_tag("t")
                    assert await cache.get("k") is None

    async def test_the_end_of_a_tag_ends_all_that_is_near(self, servers):
        keys = [f"k{n}" for n in range(40)]
        async with caches(servers) as (one, other):
            for key in keys:
                await one.set(key, key, tags=("t", f"of:{key}"))
            for key in keys:
                assert await kept(other, key) == key
            await one.invalidate_tag("of:k7")
            await comes(lambda: other.get("k7"), None)
            assert await tier(other, "k8") == "near"
            await one.invalidate_tag("t")
            for key in keys:
                await comes(lambda: other.get(key), None)  # noqa: B023

    async def test_a_region_that_is_cleared_at_once(self, servers):
        regions = [CacheRegion("page", instant_clear=True)]
        async with caches(servers, regions=regions) as (one, other):
            pages, theirs = one.region("page"), other.region("page")
            await pages.set("k", 1)
            async with asyncio.timeout(5):
                while True:
                    found = await theirs.lookup("k")
                    if isinstance(found, Hit) and found.tier == "near":
                        break
            assert found.tags == ()
            await pages.clear()
            await comes(lambda: theirs.get("k"), None)

    async def test_an_entry_expires_here_too(self, servers):
        async with caches(servers, 1) as [cache]:
            await cache.set("k", 1, ttl=0.4)
            began = now()
            assert await kept(cache, "k") == 1
            while await cache.get("k") is not None:
                assert now() - began < 1
                await asyncio.sleep(0.005)
            assert now() - began > 0.35


class TestLevels:
    async def test_a_consistent_read_asks_the_server(self, pair):
        one, other = pair
        await one.set("k", 1)
        await kept(other, "k")
        await one.set("k", 2)
        assert await other.get("k", options=CONSISTENT) == 2

    async def test_strong_keeps_nothing_near(self, standalone):
        async with AsyncExitStack() as stack:
            config = config_of(standalone, coherence=CacheCoherence(consistency="strong"))
            one, other = [await stack.enter_async_context(Cache(config)) for _ in range(2)]
            await one.set("k", 0)
            for number in range(1, 200):
                await one.set("k", number)
                assert await other.get("k") == number
            assert await tier(other, "k") == "redis"

    @pytest.mark.parametrize("kind", ["cluster", "sentinel"])
    async def test_strong_where_a_primary_may_be_replaced(self, request, kind):
        deployment = request.getfixturevalue(kind)
        config = config_of(deployment, coherence=CacheCoherence(consistency="strong"))
        async with Cache(config) as cache:
            await cache.set("k", 1)
            before = now()
            found = await cache.lookup("k")
            assert isinstance(found, Hit)
            assert found.age_bound <= now() - before

    @pytest.mark.parametrize("kind", ["cluster", "sentinel"])
    @pytest.mark.parametrize("confirm", ["quorum", "none"])
    async def test_other_signs_of_a_primary(self, request, kind, confirm):
        deployment = request.getfixturevalue(kind)
        coherence = CacheCoherence(confirm=confirm)
        async with caches(deployment, coherence=coherence) as (one, other):
            await one.set("k", 1)
            assert await kept(other, "k") == 1
            await one.set("k", 2)
            await comes(lambda: other.get("k"), 2)
            await kept(other, "k")
            for options in (None, CONSISTENT):
                found = await other.lookup("k", options=options)
                assert isinstance(found, Hit)
                assert found.tier == ("redis" if options else "near")
                assert (found.age_bound >= 1) == (confirm == "quorum")

    async def test_levels_change_while_the_cache_runs(self, pair):
        one, other = pair
        await one.set("k", 1)
        await kept(other, "k")
        await other.configure_coherence(CacheCoherence(consistency="strong"))
        assert await tier(other, "k") == "redis"
        await one.set("k", 2)
        assert await other.get("k") == 2
        await other.configure_coherence(CacheCoherence())
        await tracks(other)
        assert await kept(other, "k") == 2

    async def test_copies_on_a_ring_do_not_agree_at_once(self, ring):
        placed = PartitioningConfig(strategy=Consistent(replicas=2))
        async with caches(ring, 1, partitioning=placed) as [cache]:
            await cache.set("k", 1, ttl=60)
            assert await kept(cache, "k") == 1
            with pytest.raises(NotSupportedOnRing):
                await cache.get("k", options=CONSISTENT)


class TestRegions:
    async def test_what_each_keeps_is_its_own_matter(self, standalone):
        flush(standalone)
        regions = [
            CacheRegion("off", near=NearConfig(enabled=False)),
            CacheRegion("few", near=NearConfig(max_items=3)),
            CacheRegion("first", near=NearConfig(max_items=3, policy="fifo")),
            CacheRegion("small", near=NearConfig(max_memory=100)),
        ]
        async with caches(standalone, 1, regions=regions) as [cache]:
            for name in ("off", "few", "first", "small"):
                region = cache.region(name)
                await region.set_many({f"k{n}": "x" * 30 for n in range(10)})
                for _ in range(3):
                    for n in range(10):
                        await region.get(f"k{n}")
            table = backend_of(cache)._nearby.tier.table
            assert len(table("off")) == 0
            assert len(table("few")) == len(table("first")) == 3
            few, first = cache.region("few"), cache.region("first")
            for region in (few, first):
                await region.get("k7")  # the oldest of those near
                await region.get("k0")
            assert [await tier_of(each, "k7") for each in (few, first)] == ["near", "redis"]
            assert 0 < table("small").weight <= 100
            assert cache.region("off").hits.table is None

    async def test_a_bound_that_is_too_small_is_refused(self):
        with pytest.raises(ConfigError, match="at least 10 milliseconds"):
            NearConfig(max_staleness=0.001)

    async def test_hits_near_count_as_uses_of_a_limited_region(self, standalone):
        """Or what is hot here would be evicted there, as nobody asks for it any more."""
        flush(standalone)
        regions = [CacheRegion("lru", policy=LRU(max_items=10))]
        cache = Cache(config_of(standalone, regions=regions))
        backend_of(cache)._limits.pace = Pace(notes=0.05, uses=0.1, sweep=0.1, busy=0.1, young=0.0)
        async with cache:
            await tracks(cache)
            region = cache.region("lru")
            await region.set_many({f"k{n}": n for n in range(10)})
            for turn in range(20):  # two regions full of new ones, and k0 is hit near all the time
                until_then = now() + 0.2
                while now() < until_then:
                    assert await region.get("k0") == 0
                    await asyncio.sleep(0.01)
                await region.set(f"new{turn}", turn)
            assert await region.exists("k0")
            assert not await region.exists("k1")


class TestRaces:
    async def test_a_change_between_reply_and_keeping(self, pair):
        """A read in flight is marked: what it brings is given to its caller, and not kept."""
        one, other = pair
        await one.set("k", 1)

        async def change() -> None:
            FAILPOINTS.clear()
            await one.set("k", 2)
            marker = await other.get("pushed")  # behind the push, on the same connection
            assert marker is None

        FAILPOINTS["after-reply-before-install"] = change
        try:
            assert await other.get("k") == 1
        finally:
            FAILPOINTS.clear()
        assert await tier(other, "k") == "redis"
        assert await other.get("k") == 2

    @pytest.mark.parametrize("how", ["flush", "kill", "tag"])
    async def test_anything_else_between_them(self, pair, standalone, how):
        one, other = pair
        await one.set("k", 1, tags=("t",))

        async def change() -> None:
            FAILPOINTS.clear()
            if how == "flush":
                flush(standalone)
            elif how == "kill":
                standalone.servers[0].cli("CLIENT", "KILL", "TYPE", "normal")
            else:
                await one.invalidate_tag("t")
                return
            await until(lambda: not marks(other))

        FAILPOINTS["after-reply-before-install"] = change
        try:
            await other.get("k")
        finally:
            FAILPOINTS.clear()
        table = backend_of(other)._nearby.tier.table("default")
        assert table.peek("k", now()) is None

    async def test_reads_of_many_callers_and_writes_of_another(self, standalone):
        """Each reader sees a number that only grows, and none that is older than the bound."""
        flush(standalone)
        written: dict[int, float] = {}
        async with caches(standalone) as (one, other):
            await one.set("n", 0)
            running = True

            async def write() -> None:
                for number in range(1, 2000):
                    await one.set("n", number)
                    written[number] = now()

            async def read() -> int:
                last = hits = 0
                while running:
                    began = now()
                    number = await other.get("n", 0)
                    assert number >= last
                    last = number
                    newer = written.get(int(number) + 1)
                    assert newer is None or newer > began - BOUND
                    hits += 1
                    await asyncio.sleep(0)
                return hits

            readers = [asyncio.create_task(read()) for _ in range(8)]
            await write()
            running = False
            assert sum(await asyncio.gather(*readers)) > 2000
            await comes(lambda: other.get("n"), 1999)


class TestLoads:
    @pytest.mark.parametrize("change", ["set", "delete", "invalidate", "tag", "clear"])
    @pytest.mark.parametrize("near", [True, False])
    @pytest.mark.parametrize("grace", [0, 60])
    async def test_a_load_that_began_before_is_not_joined(self, standalone, change, near, grace):
        flush(standalone)
        regions = [CacheRegion("r", grace=grace, near=NearConfig(enabled=near))]
        async with AsyncExitStack() as stack:
            config = config_of(standalone, regions=regions)
            one, other = [await stack.enter_async_context(Cache(config)) for _ in range(2)]
            here, there = one.region("r"), other.region("r")
            started, finish = asyncio.Event(), asyncio.Event()
            loads = 0

            async def old() -> str:
                started.set()
                await finish.wait()
                return "old"

            async def new() -> str:
                nonlocal loads
                loads += 1
                return "new"

            first = asyncio.create_task(here.get_or_load("k", old, tags=("t",)))
            await started.wait()
            if change == "set":
                await there.set("k", "new")
            elif change == "tag":
                await other.invalidate_tag("t")
            elif change == "clear":
                await there.clear()
            else:
                await getattr(there, change)("k")
            second = asyncio.create_task(here.get_or_load("k", new, tags=("t",)))
            try:
                async with asyncio.timeout(5):
                    assert await second == "new"
            finally:
                finish.set()
            assert await first == "old"
            assert loads == (change != "set")
            assert await here.get("k") == await there.get("k") == "new"

    async def test_a_load_that_nothing_happened_to_is_joined(self, pair):
        one, _ = pair
        finish = asyncio.Event()
        loads = 0

        async def load() -> str:
            nonlocal loads
            loads += 1
            await finish.wait()
            return "v"

        tasks = [asyncio.create_task(one.get_or_load("k", load, tags=("t",))) for _ in range(50)]
        await until(lambda: loads)
        tasks += [asyncio.create_task(one.get_or_load("k", load, tags=("t",))) for _ in range(50)]
        await asyncio.sleep(0.05)
        finish.set()
        assert set(await asyncio.gather(*tasks)) == {"v"}
        assert loads == 1


class TestFaults:
    async def test_a_connection_that_is_cut_takes_with_it_what_it_kept(self, pair, standalone):
        one, other = pair
        for _ in range(5):
            await one.set("k", 1)
            await kept(other, "k")
            standalone.servers[0].cli("CLIENT", "KILL", "TYPE", "normal")
            table = backend_of(other)._nearby.tier.table("default")
            await until(lambda: table.peek("k", now()) is None)  # noqa: B023
            await tracks(other)
            await tracks(one)

    async def test_flushall(self, pair, standalone):
        one, other = pair
        await one.set("k", 1)
        await kept(other, "k")
        flush(standalone)
        await comes(lambda: other.get("k"), None)

    async def test_a_server_that_comes_back_empty(self, server):
        async with caches(alone(server), timeout=1) as (one, other):
            await one.set("k", 1)
            await kept(other, "k")
            server.kill()
            await falls_silent(other, "k", 1)
            server.start()
            await tracks(other)
            assert await other.lookup("k") == Miss()

    @pytest.mark.parametrize("side", ["both", "answers"])
    async def test_a_half_open_connection(self, server, side):
        """The reader hears nothing any more: it answers for the bound, and then no more."""
        async with FaultProxy(server.port) as through:
            behind = Deployment("standalone", [through.url], [server])
            async with (
                caches(alone(server), 1) as [writer],
                caches(behind, 1, timeout=1) as [reader],
            ):
                await writer.set("k", 1)
                assert await kept(reader, "k") == 1
                through.mute, through.deaf = True, side == "both"
                await writer.set("k", 2)
                await falls_silent(reader, "k", 1)
                through.mute = through.deaf = False
                through.reset()
                await comes(lambda: answered(reader, "k"), 2)
                await tracks(reader)
                assert await kept(reader, "k") == 2

    async def test_a_frozen_server(self, server):
        async with caches(alone(server), 1, timeout=1) as [cache]:
            await cache.set("k", 1)
            await kept(cache, "k")
            server.freeze()
            try:
                await falls_silent(cache, "k", 1)
            finally:
                server.thaw()
            await comes(lambda: answered(cache, "k"), 1)

    async def test_a_user_who_may_not_track(self, server):
        rules = ("near", "on", ">secret", "~*", "&*", "+@all", "-client|tracking")
        server.cli("ACL", "SETUSER", *rules)
        urls = [f"redis://127.0.0.1:{server.port}"]
        redis = Redis(urls=urls, username="near", password="secret")
        async with Cache(CacheConfig(backend=redis)) as cache:
            await cache.set("k", 1)
            assert [await tier(cache, "k") for _ in range(3)] == ["redis"] * 3
            async with asyncio.timeout(5):
                while (health := await cache.get_health()).status == "ok":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert any("CLIENT TRACKING" in check.detail for check in health.checks)


def alone(server: Server) -> Deployment:
    return Deployment("standalone", [f"redis://127.0.0.1:{server.port}"], [server])


async def falls_silent(cache: Cache, key: str, value: object) -> None:
    """Read until there is no answer any more: before that it is ``value``, for at most the bound
    from now on; and the call that fails does so within its own timeout.
    """
    began = now()
    async with asyncio.timeout(10):
        while (found := await answered(cache, key)) == value:
            assert now() - began <= BOUND, "a near hit past the bound"
            await asyncio.sleep(0.002)
    assert isinstance(found, BackendUnavailable)
    assert now() - began < 2 * BOUND + 1


async def answered(cache: Cache, key: str) -> object:
    """What a read gives, or the error that it raises."""
    try:
        return await cache.get(key)
    except BackendUnavailable as error:
        return error


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
class TestReplacedPrimaries:
    async def test_one_that_was_frozen_does_not_answer_for_its_successor(self, request, kind, own):
        """It says after it woke that it is the primary, for a while; nothing it says counts."""
        deployment = own(kind)
        async with caches(deployment, timeout=1) as (one, other):
            await one.set("k", 0)
            assert await kept(other, "k") == 0
            link = backend_of(other)._link
            port = link.topology.node_for(b"test:default:k").endpoint.port
            [chief] = [each for each in deployment.servers if each.port == port]
            chief.freeze()
            running, written = True, {0: now()}

            async def write() -> None:
                number = 0
                while running:
                    try:
                        await one.set("k", number + 1)
                    except BackendUnavailable:
                        await asyncio.sleep(0.01)
                        continue
                    number += 1
                    written[number] = now()
                    await asyncio.sleep(0.01)

            writer = asyncio.create_task(write())
            try:
                await until(lambda: len(written) > 3, within=20)
                chief.thaw()
                began, seen = now(), 0
                while now() - began < 5:
                    asked = now()
                    found = await answered(other, "k")
                    if isinstance(found, int):
                        newer = written.get(found + 1)
                        assert newer is None or newer > asked - BOUND - 0.1
                        seen += 1
                    await asyncio.sleep(0.005)
                assert seen > 20
            finally:
                running = False
                chief.thaw()
                await writer


async def test_a_primary_that_is_full_can_be_confirmed(own):
    """Nothing can be written there; what is there can still be read, and kept near."""
    deployment = own("sentinel")
    async with Cache(config_of(deployment, timeout=1)) as cache:
        await cache.set("k", 1)
        await tracks(cache)
        deployment.servers[0].cli("CONFIG", "SET", "maxmemory", "1")
        began = now()
        while now() - began < 2 * BOUND:
            assert await cache.get("k", options=CONSISTENT) == 1
        assert await kept(cache, "k") == 1


async def test_what_a_server_told_ends_with_its_place_in_the_topology(ring, monkeypatch):
    """At once, and not when its connection is closed: the leases of the others go on."""
    async with caches(ring, 1) as [cache]:
        await cache.set("k", 1)
        assert await kept(cache, "k") == 1
        nearby = backend_of(cache)._nearby
        topology = nearby._link.topology
        name = backend_of(cache)._names.entry("default", "k")
        others = [node for node in topology.nodes() if node is not topology.node_for(name)]
        assert others
        monkeypatch.setattr(topology, "nodes", lambda: others)
        nearby._follow_topology()
        assert nearby.tier.answers("default", now())
        assert nearby.tier.read("default", "k", now()) is None


@pytest.mark.parametrize("change", ["delete", "tag", "clear"])
async def test_an_invalidation_that_a_failover_lost_is_made_again(own, change, monkeypatch):
    """The successor still has what was deleted; who deleted it never sees it again."""
    monkeypatch.setattr(succession, "_EVERY", 60.0)  # not before we look
    deployment = own("sentinel")
    chief = deployment.servers[0]
    config = config_of(deployment, timeout=1)
    async with Cache(config) as cache:
        await cache.set("k", 1, tags=("t",))
        assert chief.replicates(2)
        chief.cli("ACL", "SETUSER", "default", "-psync", "-replconf")
        chief.cli("CLIENT", "KILL", "TYPE", "replica")
        if change == "delete":
            assert await cache.delete("k")
        elif change == "tag":
            await cache.invalidate_tag("t")
        else:
            await cache.clear()
        chief.kill()
        topology = backend_of(cache)._link.topology
        await until(lambda: topology.nodes()[0].endpoint.port != chief.port, within=30)
        [successor] = [e for e in deployment.servers if e.port == topology.nodes()[0].endpoint.port]
        assert "test:default:k" in successor.cli("KEYS", "*"), "it was to be lost"
        async with asyncio.timeout(10):
            while isinstance(  # noqa: ASYNC110
                found := await answered(cache, "k"), BackendUnavailable
            ):
                await asyncio.sleep(0.01)
        assert found is None
        health = await cache.get_health()
        assert any("was replaced as a primary" in check.detail for check in health.checks)


async def test_a_claim_gets_nothing_that_a_failover_brought_back(sentinel):
    """A load may be the first to ask the successor, which still has what we removed."""
    async with Cache(config_of(sentinel)) as cache:
        backend = backend_of(cache)
        name = backend._names.entry("default", "k").decode()
        topology = backend._link.topology
        [chief] = [e for e in sentinel.servers if e.port == topology.nodes()[0].endpoint.port]
        await cache.set("k", 1)
        chief.cli("COPY", name, "aside", "REPLACE")
        await cache.delete("k")
        chief.cli("COPY", "aside", name)
        repeating = backend._succession
        repeating._done = deque([done._replace(node=None) for done in repeating._done])
        gone = Node(Endpoint(HOST, 1), PoolConfig(), now)
        repeating._primaries, repeating._version = [gone], -1
        assert await backend.claim("default", ["k"], (), 1.0) == [None]
        assert await cache.get_or_load("k", lambda: 2) == 2


@pytest.fixture
def own(tmp_path):
    """Servers of the test's own."""
    started: list[Deployment] = []

    def opener(kind: str) -> Deployment:
        started.append(start(kind, tmp_path))
        return started[-1]

    yield opener
    for deployment in started:
        deployment.stop()


async def test_what_is_warmed_is_near_and_the_hottest_are_warm_again(standalone, tmp_path):
    flush(standalone)
    kept = WarmStart(path=tmp_path / "hot.keys", max_keys=3)
    async with caches(standalone, 1, warm_start=kept) as [cache]:
        await cache.set_many({f"k{number}": number for number in range(300)}, ttl=60)
        assert await cache.warm(cache.scan("k*")) == Warmed(found=300)
        assert [await tier(cache, key) for key in ("k0", "k299")] == ["near", "near"]
        for key in ("k1", "k2", "k3"):
            await cache.get(key)
    async with caches(standalone, 1, warm_start=kept) as [cache]:
        assert await cache.warm() == Warmed(found=3)
        backend = backend_of(cache)
        assert sorted(backend._nearby.tier.table("default").keys()) == ["k1", "k2", "k3"]
