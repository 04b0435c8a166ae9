"""Write-behind at level `replicated`: the primary dies, and a replica takes its place. What was
accepted is written all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.redis.servers import HOST, MASTER, Deployment, Server, missing, start, wait_until
from tests.redis.servers import ring as start_ring
from tests.write_modes.processes import Worker, spawn
from tests.write_modes.world import World, until

from clusterdb.cache import Cache, Degraded
from clusterdb.cache.config import PoolConfig, Redis, ReplicationConfig, SentinelConfig, SQLite
from clusterdb.cache.errors import BackendUnavailable
from clusterdb.cache.failpoints import FAILPOINTS
from clusterdb.cache.write_modes.behind import Behind

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(bool(missing()), reason="redis-server is not installed"),
]

EACH = ReplicationConfig(mode="synchronous", factor=3, consistency="all")
ONE_OTHER = ReplicationConfig(mode="synchronous", factor=2, consistency="all")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = start("sentinel", tmp_path_factory.mktemp("sentinel"))
    yield deployment
    deployment.stop()


@pytest.fixture
def sentinel(watched: Deployment) -> Deployment:
    """A primary and two replicas, watched by sentinels; who was killed is back as a replica."""
    chief = primary(watched)
    for each in watched.servers:
        if each.process is not None and each.process.poll() is not None:
            each.options = ["--replicaof", HOST, str(chief.port)]
            each.start()
    wait_until(lambda: chief.replicates(2), "replicas that take writes")
    return watched


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Deployment]:
    """Three primaries with a replica each, of the test's own: it kills one."""
    deployment = start("cluster", tmp_path / "cluster")
    yield deployment
    deployment.stop()


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, sentinel: Deployment, tmp_path: Path
) -> AsyncIterator[World]:
    pool = PoolConfig(timeout=getattr(request, "param", 1.0), connect_timeout=1.0)
    redis = Redis(urls=sentinel.urls, sentinel=SentinelConfig(master=MASTER), pool=pool)
    rows = SQLite(path=tmp_path / "rows.db")
    async with World(redis, rows, str(tmp_path / "journals")) as made:
        yield made


def primary(sentinel: Deployment) -> Server:
    """Whom the sentinels name."""
    named = sentinel.sentinels[0].cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER).split()
    [found] = [each for each in sentinel.servers if str(each.port) == named[1]]
    return found


def replicas(sentinel: Deployment) -> list[Server]:
    chief = primary(sentinel)
    return [each for each in sentinel.servers if each is not chief]


def behind(cache: Cache) -> Behind:
    stored = cache.access.runtime.stored
    assert stored is not None
    [store] = stored.stores
    return store.behinds["default"]


async def accepts(cache: Cache, key: str) -> None:
    """Wait until writes are accepted, and write a key."""

    async def accepted() -> bool:
        try:
            return await cache.set(key, key)
        except BackendUnavailable:
            return False

    await until(accepted, "a write that is accepted", 30)


async def test_with_too_few_replicas_nothing_is_accepted(world: World, sentinel: Deployment):
    """The write is refused; as `Degraded` says, it was done where there was somebody to do it."""
    cache = await world.cache(
        "behind", durability="replicated", flush_interval=30, replication=EACH
    )
    assert await cache.set("k", 1)
    frozen = replicas(sentinel)[0]
    frozen.freeze()
    try:
        with pytest.raises(Degraded) as caught:
            await cache.set("k", 2)
        assert (caught.value.acknowledged, caught.value.wanted) == (2, 3)
        assert behind(cache).pending == 1
    finally:
        frozen.thaw()
    await accepts(cache, "again")
    await cache.write_through("other", 1)  # the flush of what is pending comes with the end
    await cache.aclose()
    assert [await world.value(key) for key in ("k", "again")] in ([1, "again"], [2, "again"])


async def test_what_was_accepted_outlives_the_primary_and_its_writer(
    world: World, workers: list[Worker], sentinel: Deployment
):
    """Both are killed while writes are under way, and another process writes what they left."""
    await outlives(world, workers, lambda: primary(sentinel).kill())


async def test_on_a_cluster_too(cluster: Deployment, tmp_path: Path, workers: list[Worker]):
    """Where a third of the keys' intents is on the primary that dies, with its only replica."""
    pool = PoolConfig(timeout=1.0, connect_timeout=1.0)
    redis = Redis(urls=cluster.urls, cluster=True, pool=pool)
    rows = SQLite(path=tmp_path / "rows.db")

    def kill_one() -> None:
        lost = cluster.servers[0]  # the first three are the primaries
        assert lost.info("replication")["role"] == "master"
        assert int(lost.cli("DBSIZE")) > 0
        lost.kill()
        alive = [server for server in cluster.servers if server is not lost]

        def is_replaced(server: Server) -> bool:
            primaries = _primaries(server)
            return len(primaries) == 3 and lost.port not in primaries

        wait_until(lambda: all(map(is_replaced, alive)), "a replica in its place", 30)

    async with World(redis, rows, str(tmp_path / "journals")) as world:
        await outlives(world, workers, kill_one)


def _primaries(server: Server) -> set[int]:
    """The ports of the primaries that have not failed, as a server of a cluster knows them."""
    nodes = [line.split() for line in server.cli("CLUSTER", "NODES").splitlines()]
    return {
        int(address.partition("@")[0].rpartition(":")[2])
        for _, address, flags, *_ in nodes
        if "master" in flags and "fail" not in flags
    }


async def outlives(world: World, workers: list[Worker], kill: Callable[[], None]) -> None:
    """Whatever a worker was told is accepted, before and after the kill, gets into the database,
    though it never flushes, and is killed too.
    """
    options = {"durability": "replicated", "flush_interval": 60, "replication": ONE_OTHER}
    worker = spawn(workers, world, "write_behind", keys=50, options=options)
    accepted: dict[str, int] = {}
    lines, killed, since = 0, False, 0
    while since < 100:
        kind, _, key, value, *_ = await asyncio.to_thread(worker.line)
        lines += 1
        if kind == "ok":
            accepted[key] = value
            since += killed
        if lines == 200:
            await asyncio.to_thread(kill)
            killed = True
    worker.end()
    async with world.make("behind", durability="replicated", replication=ONE_OTHER) as other:
        for key, value in accepted.items():
            assert await other.get(key, type=int, default=-1) >= value
    for key, value in accepted.items():
        assert await world.value(key) >= value


async def test_on_a_ring_one_server_has_each_intent(tmp_path: Path):
    """More copies can't be had there: none of its servers is another's replica."""
    ring = start_ring(tmp_path / "ring")
    rows = SQLite(path=tmp_path / "rows.db")
    try:
        async with World(Redis(urls=ring.urls), rows, str(tmp_path / "journals")) as world:
            lost = await world.cache("behind", durability="replicated", flush_interval=60)
            keys = {f"k{at}": at for at in range(40)}
            await lost.set_many(keys)
            hashes = [each.cli("KEYS", "*#pending:*").split() for each in ring.servers]
            assert all(hashes), "each server has some"
            assert len({name for each in hashes for name in each}) == sum(map(len, hashes))
            async with world.make("behind", durability="replicated") as other:
                assert await other.get_many(list(keys)) == keys
            assert [await world.value(key) for key in keys] == list(keys.values())

            several = await world.cache("behind", durability="replicated", replication=ONE_OTHER)
            with pytest.raises(Degraded) as caught:
                await several.set("k", 1)
            assert (caught.value.acknowledged, caught.value.wanted) == (1, 2)
    finally:
        ring.stop()


@pytest.mark.parametrize("world", [10.0], indirect=True, ids=["a call outlasts the failover"])
async def test_a_primary_that_dies_before_its_replicas_have_a_write(
    world: World, sentinel: Deployment
):
    """They answer for what they did, not for what the dead one did: the write is not accepted."""
    cache = await world.cache(
        "behind", durability="replicated", flush_interval=60, replication=ONE_OTHER
    )
    await accepts(cache, "before")
    chief = primary(sentinel)
    others = replicas(sentinel)

    async def replaced() -> None:
        FAILPOINTS.clear()
        chief.kill()
        for each in others:
            follow(each)
        await asyncio.to_thread(
            wait_until, lambda: primary(sentinel) is not chief, "another primary", 30
        )
        await accepts(cache, "after")

    for each in others:
        cut(each)
    FAILPOINTS["after-write-before-replicas"] = replaced
    try:
        with pytest.raises(Degraded, match="replaced meanwhile"):
            await cache.set("lost", 1)
    finally:
        FAILPOINTS.clear()
    await cache.aclose()
    assert await world.value("before") == "before"
    assert await world.value("after") == "after"


def cut(replica: Server) -> None:
    """Keep a replica from its primary; it goes on answering."""
    replica.cli("CONFIG", "SET", "masterauth", "wrong")
    replica.cli("CONFIG", "SET", "masteruser", "nobody")
    replica.cli("CLIENT", "KILL", "TYPE", "master")
    down = "master_link_status"
    wait_until(lambda: replica.info("replication")[down] == "down", "a link that is down")


def follow(replica: Server) -> None:
    """Let it follow whomever it is told to."""
    replica.cli("CONFIG", "SET", "masteruser", "")
    replica.cli("CONFIG", "SET", "masterauth", "")
