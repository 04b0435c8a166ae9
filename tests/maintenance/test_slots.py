"""Slots of a real Redis Cluster move while it is used, whatever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.maintenance.conftest import Shared
from tests.redis.servers import Deployment, missing, start, wait_until

from clusterdb.cache import Cache
from clusterdb.cache.transport import slot_of
from clusterdb.cache.upkeep import Rebalanceable

pytestmark = [pytest.mark.server, pytest.mark.process]

REBALANCE = {"tasks": [{"type": "rebalance", "threshold": 0.2}]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    deployment = start("cluster", tmp_path_factory.mktemp("cluster"))
    yield deployment
    deployment.stop()


@pytest.fixture
def shared(cluster: Deployment) -> Shared:
    for server in cluster.servers:
        server.ask("FLUSHALL")
    backend = {"type": "redis", "urls": cluster.urls, "cluster": True}
    return Shared(backend, lambda _: None)


def server_of(cluster: Deployment, name: str):
    return next(each for each in cluster.servers if name.endswith(f":{each.port}"))


def slots_of(cluster: Deployment, name: str) -> list[int]:
    """The slots that a server says it has."""
    for line in server_of(cluster, name).cli("CLUSTER", "NODES").splitlines():
        words = line.split()
        if "myself" in words[2]:
            ranges = [word for word in words[8:] if not word.startswith("[")]
            return [
                n
                for word in ranges
                for n in range(int(word.split("-")[0]), int(word.split("-")[-1]) + 1)
            ]
    return []


def tags_in(slots: list[int], count: int) -> list[str]:
    """Hash tags whose keys lie in these slots, each in another."""
    found: dict[int, str] = {}
    for number in range(200_000):
        slot = slot_of(f"test:default:{{{number}}}".encode())
        if slot in slots and slot not in found:
            found[slot] = str(number)
            if len(found) == count:
                break
    return list(found.values())


async def fill(cache: Cache, cluster: Deployment, tags: int, each: int) -> dict[str, int]:
    """Entries of one server only; their versions."""
    loads = (await cache.get_balance()).loads
    slots = slots_of(cluster, min(loads))
    keys = [f"{{{tag}}}:{n}" for tag in tags_in(slots, tags) for n in range(each)]
    await cache.set_many({key: key for key in keys})
    return await versions(cache, keys)


async def versions(cache: Cache, keys: list[str]) -> dict[str, int]:
    found = await asyncio.gather(*[cache.lookup(key) for key in keys])
    return {key: hit.version for key, hit in zip(keys, found, strict=True) if hit}


def open_slots(cluster: Deployment) -> list[str]:
    lines = [line for each in cluster.servers for line in each.cli("CLUSTER", "NODES").splitlines()]
    return [line for line in lines if "->-" in line or "-<-" in line]


async def test_slots_move_by_no_more_keys_than_have_to_while_they_are_used(shared, cluster):
    async with shared.cache("asked", **REBALANCE) as cache:
        known = await fill(cache, cluster, tags=60, each=20)
        planned = await cache.get_balance()
        lost: list[str] = []
        done = asyncio.Event()

        async def use() -> None:
            while not done.is_set():
                for key in list(known)[::7]:
                    await cache.set(key, key)
                    if await cache.get(key) != key:
                        lost.append(key)
                await asyncio.sleep(0)

        using = asyncio.create_task(use())
        run = await cache.run_maintenance("rebalance")
        done.set()
        await using

        [job] = run.jobs
        assert (job.outcome, job.error) == ("done", "")
        assert 0.9 * planned.least < job.moved <= 1.1 * planned.least
        after = await cache.get_balance()
        assert after.moves == ()
        assert lost == []
        assert open_slots(cluster) == []
        assert [key for key in known if await cache.get(key) != key] == []


async def test_nothing_moves_without_being_asked_for(shared, cluster):
    async with shared.cache("asked", **REBALANCE) as cache:
        await fill(cache, cluster, tags=20, each=20)
        before = await cache.get_balance()

        maintenance = cache.access.runtime.maintenance
        wide = await maintenance.ask("maintenance", ["rebalance"], {"threshold": 2.5})
        assert (await maintenance.finished(wide)).jobs[0].moved == 0, "no server is so far off"
        run = await cache.run_maintenance()

        [job] = run.jobs
        assert "'cache maintenance rebalance' moves them" in job.notes[0]
        assert job.moved == 0
        assert max((await cache.get_balance()).loads.values()) >= max(before.loads.values())


def upkeep_of(cache: Cache) -> Rebalanceable:
    upkeep = getattr(cache.access.runtime.backend, "upkeep", None)
    assert isinstance(upkeep, Rebalanceable)
    return upkeep


async def half_way(cache: Cache, moved: int) -> None:
    """Wait until a slot is open, with some of its keys on each side."""
    upkeep = upkeep_of(cache)
    async with asyncio.timeout(20):
        while True:
            state = await cache.get_maintenance()
            run = state.runs.get("maintenance")
            if run is not None and run.jobs[0].moved > moved and await upkeep.unfinished():
                return
            await asyncio.sleep(0.02)


async def test_a_slot_that_a_killed_program_left_open_is_found_and_ended(shared, cluster, programs):
    slow = {**REBALANCE, "rate_limit": 300}
    async with shared.cache(**slow) as cache:
        known = await fill(cache, cluster, tags=4, each=300)
        program = programs(shared.config(**slow))
        program.leads()
        maintenance = cache.access.runtime.maintenance
        request = await maintenance.ask("maintenance", ["rebalance"])
        await half_way(cache, 0)

        program.kill()
        assert open_slots(cluster)
        assert await versions(cache, list(known)) == known, "an open slot is served"
        maintenance.duties = "asked"
        run = await maintenance.finished(request)

        [job] = run.jobs
        assert (run.resumed, job.outcome, job.error) == (1, "done", "")
        assert open_slots(cluster) == []
        assert await versions(cache, list(known)) == known
        assert len((await cache.get_balance()).loads) == 3


async def test_a_server_lost_in_the_middle_is_told_and_its_replica_takes_over(
    shared, cluster, programs
):
    slow = {**REBALANCE, "rate_limit": 300}
    async with shared.cache("asked", **slow) as cache:
        known = await fill(cache, cluster, tags=4, each=300)
        maintenance = cache.access.runtime.maintenance
        request = await maintenance.ask("maintenance", ["rebalance"])
        await half_way(cache, 0)
        [move] = await upkeep_of(cache).unfinished()
        lost = server_of(cluster, move.target)

        lost.kill()
        run = await maintenance.finished(request)
        assert run.resumed or move.target in run.jobs[0].error, "it was told"
        alive = next(each for each in cluster.servers if each is not lost)
        wait_until(lambda: _is_whole_without(alive, lost), "a replica in its place", 20)
        if run.outcome == "failed":
            run = await cache.run_maintenance("rebalance")

        assert (run.outcome, run.jobs[0].error) == ("done", "")
        others = [each for each in cluster.servers if each is not lost]
        lines = [line for each in others for line in each.cli("CLUSTER", "NODES").splitlines()]
        assert [line for line in lines if "->-" in line or "-<-" in line] == []
        found = await versions(cache, list(known))
        assert {key: found.get(key) for key in known} == known


def _is_whole_without(alive, lost) -> bool:
    whole = "cluster_state:ok" in alive.cli("CLUSTER", "INFO")
    return whole and str(lost.port) not in alive.cli("CLUSTER", "SLOTS").split()
