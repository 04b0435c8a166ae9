"""Keys of a ring of real servers move while they are used, whatever dies or stands still."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.maintenance.conftest import Shared
from tests.maintenance.programs import eventually
from tests.redis.servers import Deployment, Server, missing, start

from clusterdb.cache import Cache, CacheConfig, Consistent, NotSupported, PartitioningConfig, Redis
from clusterdb.cache.backends.redis.link import Link
from clusterdb.cache.backends.redis.names import Names
from clusterdb.cache.backends.redis.scripts import DROP
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.errors import BackendUnavailable
from clusterdb.cache.partition.placement import Placement

pytestmark = [pytest.mark.server, pytest.mark.process]

REBALANCE = {"tasks": [{"type": "rebalance", "threshold": 0.3}]}
LOPSIDED = [4.0, 1.0, 1.0]
WRITER = Path(__file__).with_name("writer.py")


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    deployment = start("ring", tmp_path_factory.mktemp("ring"))
    yield deployment
    deployment.stop()


class Ring(Shared):
    """A ring of which one server has most of the keys."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__({"type": "redis", "urls": deployment.urls}, lambda _: None)
        self.servers = deployment.servers

    def config(self, **settings: object) -> dict[str, object]:
        strategy = {"type": "consistent", "weights": settings.pop("weights", LOPSIDED)}
        cache = super().config(**{**REBALANCE, **settings})
        cache["cache"]["partitioning"] = {"strategy": strategy}
        return cache

    def names(self, server: Server) -> set[str]:
        """The names of entries that a server has."""
        return set(server.cli("--raw", "KEYS", "test:default:*").split())

    def placement(self, server: Server) -> Placement | None:
        return Placement.read(server.cli("--raw", "GET", "test:#placement").encode())

    def rests(self) -> list[str]:
        """What a move has left behind."""
        return [
            name
            for server in self.servers
            for kind in ("#taken", "#taking", "#wishes")
            for name in server.cli("KEYS", f"test:{kind}*").split()
        ]

    def is_whole(self) -> bool:
        """Whether a move has ended on all servers, and left nothing."""
        found = [self.placement(server) for server in self.servers]
        settled = all(each is not None and not each.moves for each in found)
        return settled and len({each.text() for each in found if each}) == 1 and not self.rests()


@pytest.fixture
def shared(ring: Deployment) -> Ring:
    for server in ring.servers:
        if server.process is None or server.process.poll() is not None:
            server.start()
        server.ask("FLUSHALL")
    return Ring(ring)


def start_writer(config: dict[str, object], keys: list[str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(WRITER), json.dumps(config), *keys]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


async def fill(cache: Cache, count: int) -> dict[str, int]:
    values = {f"k{n}": n for n in range(count)}
    await cache.set_many(values)
    return values


async def moving(cache: Cache, moved: int = 1) -> None:
    """Wait until some keys have moved."""
    async with asyncio.timeout(30):
        while True:
            run = (await cache.get_maintenance()).runs.get("maintenance")
            if run is not None and run.jobs[0].moved >= moved:
                return
            await asyncio.sleep(0.02)


class Users:
    """Use a cache in all ways at once, and know what has to come of it."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.wrong: list[object] = []
        self.rounds = 0

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        ended = asyncio.Event()
        jobs = [self.sets, self.sums, self.firsts, self.tags, self.loads, self.pairs]
        tasks = [asyncio.create_task(self._again(job, ended)) for job in jobs]
        try:
            yield
        finally:
            ended.set()
            await asyncio.gather(*tasks)

    async def _again(self, job: Callable[[int], object], ended: asyncio.Event) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            await job(number)  # type: ignore[misc]
            self.rounds += 1
            await asyncio.sleep(0)

    def _is(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.wrong.append((what, found, expected))

    async def sets(self, number: int) -> None:
        key = f"set{number % 60}"
        await self.cache.set(key, number, ttl=60)
        self._is(key, await self.cache.get(key), number)
        if number % 3 == 0:
            await self.cache.delete(key)
            self._is(key, await self.cache.get(key), None)

    async def sums(self, number: int) -> None:
        turn, at = divmod(number - 1, 40)
        self._is(f"sum{at}", await self.cache.increment(f"sum{at}", 1, initial=0), turn + 1)

    async def firsts(self, number: int) -> None:
        pair, second = divmod(number - 1, 100)
        key = f"first{second % 50}-{pair}"
        self._is(key, await self.cache.set(key, number, nx=True), second < 50)

    async def tags(self, number: int) -> None:
        key, tag = f"tagged{number % 50}", f"tag{number % 7}"
        await self.cache.set(key, number, tags=(tag,))
        self._is(key, await self.cache.get(key), number)
        await self.cache.invalidate_tag(tag)
        self._is(key, await self.cache.get(key), None)

    async def loads(self, number: int) -> None:
        key = f"load{number % 30}"
        if number % 90 < 30:
            await self.cache.invalidate(key)
        turn = number - number % 90
        found = await self.cache.get_or_load(key, lambda: turn, type=int)
        if found not in (turn, turn - 90):
            self.wrong.append((key, found, turn))

    async def pairs(self, number: int) -> None:
        tag = f"{{pair{number % 20}}}"
        old = await self.cache.get(f"{tag}:a")
        change = self.cache.atomic().check(f"{tag}:a", old) if old is not None else None
        change = change or self.cache.atomic().check_absent(f"{tag}:a")
        done = await change.set(f"{tag}:a", number).set(f"{tag}:b", number).execute()
        self._is(tag, done, True)
        found = await self.cache.get_many([f"{tag}:a", f"{tag}:b"])
        self._is(tag, set(found.values()), {number})


async def test_keys_move_while_they_are_used_and_no_more_than_have_to(shared):
    async with shared.cache("asked") as cache, shared.cache() as other:
        values = await fill(cache, 240)
        before = {server.port: shared.names(server) for server in shared.servers}
        planned = await cache.get_balance(0.3)
        users = Users(other)

        async with users.at_work():
            run = await cache.run_maintenance("rebalance")

        [job] = run.jobs
        assert (job.outcome, job.error, job.notes) == ("done", "", ())
        assert users.wrong == []
        assert users.rounds > 100
        assert await cache.get_many(list(values)) == values
        after = {server.port: shared.names(server) for server in shared.servers}
        names = {f"test:default:{key}" for key in values}
        gone = sum(len((before[port] - after[port]) & names) for port in before)
        assert 0 < gone <= 1.1 * planned.least
        assert sum(len(each & names) for each in after.values()) == len(values)
        assert (await cache.get_balance(0.3)).moves == ()
        assert shared.is_whole()
        [told] = (await other.access.runtime.backend.describe()).problems
        assert "by the weights that the servers keep" in told


async def test_a_program_that_is_killed_is_followed_and_nothing_is_lost(shared, programs):
    slow = {"rate_limit": 60}
    async with shared.cache(**slow) as cache:
        values = await fill(cache, 360)
        program = programs(shared.config(**slow))
        program.leads()
        maintenance = cache.access.runtime.maintenance
        request = await maintenance.ask("maintenance", ["rebalance"])
        await moving(cache, 30)

        program.kill()
        assert not shared.is_whole()
        assert await cache.get_many(list(values)) == values, "what moves is served"
        await cache.set("k0", -1)
        maintenance.duties = "asked"
        run = await maintenance.finished(request)

        assert (run.resumed > 0, run.outcome, run.jobs[0].error) == (True, "done", "")
        assert await cache.get_many(list(values)) == {**values, "k0": -1}
        assert shared.is_whole()


async def test_a_program_that_stood_still_during_a_move_writes_where_keys_are_then(shared):
    keys = [f"w{n}" for n in range(12)]
    async with shared.cache("asked") as cache:
        await fill(cache, 240)
        writer = start_writer(shared.config(), keys)
        try:
            assert writer.stdout is not None
            lines = [json.loads(writer.stdout.readline()) for _ in range(50)]
            os.kill(writer.pid, signal.SIGSTOP)
            status = Path(f"/proc/{writer.pid}/status")
            eventually(lambda: "T (" in status.read_text(), "stopped")
            run = await cache.run_maintenance("rebalance")
            assert run.outcome == "done"
            there = [name for server in shared.servers for name in shared.names(server)]

            os.kill(writer.pid, signal.SIGCONT)
            while len(lines) < 2_000 and not all(each["stored"] for each in lines[-24:]):
                lines.append(json.loads(writer.stdout.readline()))
            lines += [json.loads(writer.stdout.readline()) for _ in range(200)]
        finally:
            writer.kill()
            rest = writer.communicate()[0].splitlines()
        lines += [json.loads(line) for line in rest if line.endswith("}")]
        latest = {each["key"]: each["number"] for each in lines if each["stored"]}
        found = await cache.get_many(keys)
        held = [name for server in shared.servers for name in shared.names(server)]

        assert len(there) == len(set(there))
        assert len(held) == len(set(held)), "each key is on one server"
        assert all(found[key] >= latest[key] for key in keys), (found, latest)


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_server_that_is_killed_in_the_middle_is_waited_for(shared, keeps):
    slow = {"rate_limit": 60}
    async with shared.cache("asked", **slow) as cache:
        values = await fill(cache, 360)
        for server in shared.servers:
            server.cli("CONFIG", "SET", "appendonly", "yes" if keeps else "no")
        maintenance = cache.access.runtime.maintenance
        request = await maintenance.ask("maintenance", ["rebalance"])
        await moving(cache, 30)
        lost = shared.servers[0]
        if "test:#maintenance:state" in lost.cli("KEYS", "test:#maintenance:*"):
            lost = shared.servers[1]  # whoever moves keys needs that one
        lost.kill()
        lost.options = ["--appendonly", "yes"] if keeps else []
        lost.start()
        run = await maintenance.finished(request)

        assert (run.outcome, run.jobs[0].error) == ("done", "")
        found = await cache.get_many(list(values))
        assert found.items() <= values.items()
        if keeps:
            assert found == values
        else:
            assert 0 < len(found) < len(values)
        assert shared.is_whole()


async def test_nothing_moves_without_being_asked_for(shared):
    async with shared.cache("asked") as cache:
        await fill(cache, 240)

        [job] = (await cache.run_maintenance()).jobs

        assert "'cache maintenance rebalance'" in job.notes[0]
        assert job.moved == 0
        assert [shared.placement(server) for server in shared.servers] == [None] * 3


async def test_what_other_weights_left_behind_does_not_come_into_reach(shared):
    async with shared.cache(weights=[1.0, 4.0, 1.0]) as cache:
        await cache.set_many({f"k{n}": "old" for n in range(240)})
    of_others = Placement(epoch=3, weights={"10.0.0.1:6379": 1.0}, virtual_nodes=256)
    shared.servers[0].cli("SET", "test:#placement", of_others.text().decode())
    async with shared.cache("asked") as cache:
        values = await fill(cache, 240)
        await cache.delete_many([f"k{n}" for n in range(100)])
        run = await cache.run_maintenance("rebalance")

        assert run.outcome == "done"
        found = await cache.get_many(list(values))
        assert found == {f"k{n}": n for n in range(100, 240)}
        assert shared.is_whole()


async def test_a_script_whose_keys_have_come_apart_is_not_sent(shared, ring):
    names = Names("test")
    link = Link(Redis(urls=ring.urls), PartitioningConfig(), SystemClock(), names)
    await link.open()
    try:
        keys = [b"test:default:k%d" % n for n in range(20)]
        first = keys[0]
        owner = link.topology.node_for(first)
        other = next(key for key in keys if link.topology.node_for(key) is not owner)
        script = DROP.call_many([first, other], ["0"])
        assert not link.together([first, other])

        alone, among = (
            await link.send([script], [first], write=True),
            await link.send([script, ("SET", other, "x")], [first, other], write=True),
        )

        assert isinstance(alone[0], BackendUnavailable)
        assert isinstance(among[0], BackendUnavailable)
        assert "common {tag}" in str(among[0])
        assert among[1] == b"OK"
    finally:
        await link.aclose()


async def test_a_scan_meets_each_key_while_they_move(shared):
    async with shared.cache("asked", rate_limit=100) as cache:
        values = await fill(cache, 360)
        maintenance = cache.access.runtime.maintenance
        request = await maintenance.ask("maintenance", ["rebalance"])
        await moving(cache, 20)
        looks = 0
        while (await cache.get_maintenance()).runs:
            assert {key async for key in cache.scan("k*")} == set(values)
            exported = [each async for each in _export(cache)]
            assert set(exported) == set(values)
            looks += 1
        assert looks > 0
        assert (await maintenance.finished(request)).outcome == "done"

        await cache.clear()
        assert [name for server in shared.servers for name in shared.names(server)] == []


async def _export(cache: Cache) -> AsyncIterator[str]:
    async for batch in cache.access.runtime.backend.export("default"):
        for each in batch:
            yield each.key


async def test_keys_whose_writes_wait_for_replicas_do_not_move(shared):
    given = shared.config()
    replication = {"mode": "synchronous", "factor": 2, "consistency": "quorum"}
    given["coherence"] = {"replication": replication}
    async with Cache(CacheConfig.from_dict(given)) as cache:
        with pytest.raises(NotSupported, match="wait for replicas"):
            await cache.get_balance()


async def test_a_ring_of_several_copies_has_no_maintenance_and_says_so(shared, ring):
    placing = PartitioningConfig(strategy=Consistent(replicas=2))
    maintained = CacheConfig.from_dict(shared.config()).maintenance
    config = CacheConfig(
        name="test", backend=Redis(urls=ring.urls), partitioning=placing, maintenance=maintained
    )
    async with Cache(config) as cache:
        maintenance = cache.access.runtime.maintenance
        async with asyncio.timeout(10):
            while True:
                if maintenance.problem:
                    break
                await asyncio.sleep(0.02)

        health = await cache.get_health()

        [check] = [each for each in health.checks if each.name == "maintenance"]
        assert check.status == "degraded"
        assert "2 copies" in check.detail
        with pytest.raises(NotSupported, match="2 copies"):
            await cache.run_maintenance()
        with pytest.raises(NotSupported, match="single copies"):
            await cache.get_balance()
