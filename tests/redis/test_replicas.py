"""Replicas answer reads at the level `eventual`, and nothing they say is older than is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from tests.redis.backends import flush
from tests.redis.proxy import FaultProxy
from tests.redis.servers import HOST, Deployment, Server, wait_until

from clusterdb.cache.backends.redis import RedisBackend
from clusterdb.cache.backends.redis.link import Link
from clusterdb.cache.backends.redis.replicas import Replicas
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import CacheCoherence, CacheConfig, CacheRegion, PoolConfig, Redis
from clusterdb.cache.errors import ConfigError
from clusterdb.cache.protocols import Put
from clusterdb.cache.settings import resolve_region
from clusterdb.cache.testing import EncodingBackend
from clusterdb.cache.transport import Endpoint, Node

LAG = 0.4
KEYS = [f"key:{number}" for number in range(30)]
now = SystemClock().now


@asynccontextmanager
async def opened(cluster: Deployment, level: str = "eventual") -> AsyncIterator[EncodingBackend]:
    redis = Redis(
        urls=cluster.urls,
        cluster=True,
        read_replicas=True,
        near=False,
        max_replica_lag=LAG,
        pool=PoolConfig(timeout=5, connect_timeout=2),
    )
    coherence = CacheCoherence(consistency=cast("Any", level), confirm="none")
    config = CacheConfig(name="test", backend=redis, coherence=coherence)
    backend = EncodingBackend(RedisBackend(redis, config, SystemClock()))
    backend.configure({"main": resolve_region(config, CacheRegion("main"), None)})
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


def replicas_of(cluster: Deployment) -> list[Server]:
    return [each for each in cluster.servers if each.info("replication")["role"] == "slave"]


def cut(replica: Server) -> None:
    """Keep a replica from its primary; it goes on answering."""
    replica.cli("CONFIG", "SET", "masterauth", "wrong")
    replica.cli("CONFIG", "SET", "masteruser", "nobody")
    replica.cli("CLIENT", "KILL", "TYPE", "master")
    wait_until(lambda: link_of(replica) == "down", "a link that is down")


def mend(replica: Server) -> None:
    replica.cli("CONFIG", "SET", "masteruser", "")
    replica.cli("CONFIG", "SET", "masterauth", "")
    wait_until(lambda: link_of(replica) == "up", "a link that is up again")


def link_of(replica: Server) -> str:
    return replica.info("replication")["master_link_status"]


@pytest.fixture
def servers(cluster: Deployment) -> Iterator[Deployment]:
    """The cluster, with its replicas as they were afterwards."""
    flush(cluster)
    yield cluster
    for replica in replicas_of(cluster):
        replica.thaw()
        mend(replica)


def gets(servers: Sequence[Server]) -> int:
    """How many reads the servers have answered."""
    said = [server.info("commandstats").get("cmdstat_get", "calls=0,") for server in servers]
    return sum(int(each.partition("calls=")[2].partition(",")[0]) for each in said)


async def write(backend: EncodingBackend, values: dict[str, int]) -> None:
    await backend.write("main", [Put(key, value) for key, value in values.items()])


async def all_usable(backend: EncodingBackend) -> None:
    """Wait until each primary has a replica that may answer, and no key was just written."""
    replicas = inside(backend)
    await asyncio.sleep(LAG)
    await asyncio.to_thread(wait_until, lambda: not replicas.problems(), "usable replicas")


def inside(backend: EncodingBackend) -> Replicas:
    inner: Any = backend._backend
    replicas: Replicas = inner._replicas
    return replicas


async def test_replicas_answer_and_say_how_old_their_answers_are(servers):
    async with opened(servers) as backend:
        await write(backend, {key: at for at, key in enumerate(KEYS)})
        await all_usable(backend)
        before = gets(replicas_of(servers))
        records = await backend.read("main", KEYS)

        assert [record and record.value for record in records] == list(range(len(KEYS)))
        assert gets(replicas_of(servers)) - before == len(KEYS)
        assert all(record is not None and 0 < record.age_bound <= LAG for record in records)


async def test_a_consistent_read_and_own_writes_are_of_the_primary(servers):
    async with opened(servers) as backend:
        await write(backend, {"a": 1})
        await all_usable(backend)
        before = gets(replicas_of(servers))
        for value in range(200):
            await write(backend, {"a": value})
            [record] = await backend.read("main", ["a"])
            assert record is not None
            assert (record.value, record.age_bound) == (value, 0)
        await asyncio.sleep(2 * LAG)
        [strong] = await backend.read("main", ["a"], consistent=True)
        assert strong is not None
        assert strong.age_bound == 0
        assert gets(replicas_of(servers)) == before


async def test_other_levels_ask_the_primary_and_say_that_the_setting_does_nothing(servers):
    async with opened(servers, "bounded") as backend:
        await write(backend, {"a": 1})
        await asyncio.sleep(2 * LAG)
        before = gets(replicas_of(servers))
        [record] = await backend.read("main", ["a"])
        said = (await backend.describe()).problems

        assert record is not None
        assert record.age_bound == 0
        assert gets(replicas_of(servers)) == before
        assert any("read_replicas is without effect" in each for each in said)


async def test_a_replica_without_its_primary_is_not_asked_for_long(servers):
    """It answers old values, at once; they are taken only as long as they are new enough."""
    async with opened(servers) as backend, opened(servers) as other:
        await write(other, dict.fromkeys(KEYS, 1))
        await all_usable(backend)
        for replica in replicas_of(servers):
            await asyncio.to_thread(cut, replica)
        await write(other, dict.fromkeys(KEYS, 2))
        done, old = now(), 0
        while now() < done + 2 * LAG:
            began = now()
            records = await backend.read("main", KEYS)
            old += sum(record is not None and record.value == 1 for record in records)
            if began > done + LAG:
                assert {record and record.value for record in records} == {2}
        said = (await backend.describe()).problems

        assert sum("no replica of" in each for each in said) == 3
        for replica in replicas_of(servers):
            await asyncio.to_thread(mend, replica)
        await all_usable(backend)
        assert {record and record.value for record in await backend.read("main", KEYS)} == {2}


async def test_a_frozen_replica_costs_no_more_than_the_lag(servers):
    async with opened(servers) as backend:
        await write(backend, dict.fromkeys(KEYS, 1))
        await all_usable(backend)
        frozen = replicas_of(servers)
        for replica in frozen:
            replica.freeze()
        began = now()
        records = await backend.read("main", KEYS)
        spent = now() - began
        for replica in frozen:
            replica.thaw()

        assert {record and (record.value, record.age_bound) for record in records} == {(1, 0)}
        assert spent < LAG + 1


async def test_what_a_slow_replica_says_is_never_older_than_is_told(tmp_path):
    """A writer numbers its writes; each read must show what was done before its bound."""
    primary = Server(tmp_path / "primary").start()
    async with FaultProxy(primary.port) as proxy:
        proxy.delay = 0.03
        follows = ["--replicaof", HOST, str(proxy.port)]
        replica = Server(tmp_path / "replica", follows)
        await asyncio.to_thread(replica.start)
        await asyncio.to_thread(wait_until, lambda: link_of(replica) == "up", "a replica")
        try:
            old, seen, wrong = await _race(primary, replica)
        finally:
            replica.kill()
            primary.kill()
    assert wrong == []
    assert seen > 100
    assert old > 10, "the link was not slow"


async def _race(primary: Server, replica: Server) -> tuple[int, int, list[tuple[int, int]]]:
    """How many reads of a replica were behind the primary, how many there were, and which showed
    less than what was done before their bound.
    """
    nodes = [Node(Endpoint(HOST, each.port), PoolConfig(), now) for each in (primary, replica)]
    link = Pair(*nodes)
    replicas = Replicas(cast("Link", link), LAG)
    replicas.start()
    done: list[float] = []
    old, seen, wrong = 0, 0, []

    async def writes() -> None:
        while True:
            await nodes[0].call(("SET", "k", len(done)), now() + 5, write=True)
            done.append(now())
            await asyncio.sleep(0.001)

    writer = asyncio.create_task(writes())
    end = now() + 3
    while now() < end:
        [reply], [age] = await replicas.ask([("GET", b"k")], [b"k"], now() + 5)
        if not age:
            continue
        value, fresh_at = int(reply), now() - age
        due = sum(at < fresh_at for at in done) - 1
        seen, old = seen + 1, old + (value < len(done) - 2)
        if value < due:
            wrong.append((value, due))
        await asyncio.sleep(0.002)
    writer.cancel()
    await asyncio.wait([writer])
    await replicas.aclose()
    for node in nodes:
        await node.aclose()
    return old, seen, wrong


@dataclass
class Pair:
    """The way to one primary with one replica."""

    primary: Node
    replica: Node
    now: Any = now
    topology: Any = field(init=False)

    def __post_init__(self) -> None:
        self.topology = self

    def nodes(self) -> list[Node]:
        return [self.primary]

    def node_for(self, key: bytes) -> Node:
        return self.primary

    def replicas(self, node: Node) -> Sequence[Node]:
        return (self.replica,)

    async def send(self, commands: Any, keys: Any, *, deadline: float) -> list[Any]:
        return await self.primary.calls(commands, deadline)


def test_replicas_need_a_cluster():
    with pytest.raises(ConfigError, match="read_replicas: needs cluster"):
        CacheConfig(backend=Redis(urls=["redis://h"], read_replicas=True))
