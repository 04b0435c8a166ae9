"""Programs that die, stand still, or all want to do the same: nothing is done twice, or lost."""

from __future__ import annotations

import asyncio

import pytest

from clusterdb.cache import Cache, CacheError
from clusterdb.cache.maintenance import MaintenanceRun, MaintenanceState

pytestmark = pytest.mark.process

ENTRIES = 1_200
SLOW = {"rate_limit": 600}
"""Two seconds for all entries."""

DISK = pytest.mark.parametrize("shared", ["disk"], indirect=True)
REDIS = pytest.mark.parametrize(
    "shared", [pytest.param("redis", marks=pytest.mark.server)], indirect=True
)


async def fill(cache: Cache, shared) -> tuple[list[str], dict[str, int]]:
    """Entries that nobody uses, and others with their versions."""
    old = [f"old:{n}" for n in range(ENTRIES // 2)]
    new = [f"new:{n}" for n in range(ENTRIES // 2)]
    await cache.set_many(dict.fromkeys([*new, *old], "value"))
    shared.age(old)
    return old, {key: await version(cache, key) for key in new}


async def version(cache: Cache, key: str) -> int:
    return (await cache.lookup(key)).version  # type: ignore[union-attr]


async def until(cache: Cache, holds, what: str) -> MaintenanceState:
    async with asyncio.timeout(30):
        while True:
            if holds(state := await cache.get_maintenance()):
                return state
            await asyncio.sleep(0.02)


def half_way(state: MaintenanceState) -> bool:
    run = state.runs.get("maintenance")
    return run is not None and 0 < run.jobs[0].looked < ENTRIES


async def begun(cache: Cache) -> str:
    """A run is asked for and under way, with a cursor in the backend; the request."""
    request = await cache.access.runtime.maintenance.ask("maintenance")
    await until(cache, half_way, "a run under way")
    return request


async def ended(cache: Cache, request: str) -> MaintenanceRun:
    async with asyncio.timeout(30):
        return await cache.access.runtime.maintenance.finished(request)


async def test_a_clean_up_whose_program_is_killed_is_gone_on_with(shared, programs):
    async with shared.cache(**SLOW) as cache:
        old, new = await fill(cache, shared)
        first = programs(shared.config(**SLOW))
        first.leads()
        second = programs(shared.config(**SLOW))
        request = await begun(cache)

        first.kill()
        run = await ended(cache, request)

        assert (run.by, run.resumed, run.outcome) == (second.name, 1, "done")
        [job] = run.jobs
        assert job.looked <= ENTRIES + 50, "it goes on where it was, and not from the beginning"
        assert not any([await cache.exists(key) for key in old])
        assert {key: await version(cache, key) for key in new} == new


@REDIS
async def test_a_leader_that_stood_still_does_no_harm_when_it_wakes(shared, programs):
    async with shared.cache(**SLOW) as cache:
        old, new = await fill(cache, shared)
        first = programs(shared.config(**SLOW))
        first.leads()
        second = programs(shared.config(**SLOW))
        request = await begun(cache)

        first.freeze()
        run = await ended(cache, request)
        await cache.set_many(dict.fromkeys(old, "again"))
        again = {key: await version(cache, key) for key in old}
        first.thaw()
        assert first.told("leads") is False
        state = await until(
            cache, lambda state: state.leader is not None and state.leader.beat > 5, "beats"
        )

        assert state.leader is not None
        assert (run.by, state.leader.name) == (second.name, second.name)
        assert ([each.request for each in state.history], state.runs) == ([request], {})
        assert {key: await version(cache, key) for key in old} == again
        assert {key: await version(cache, key) for key in new} == new


@DISK
async def test_what_is_due_runs_once_however_many_programs_there_are(shared, programs):
    hourly = {"schedule": "0 * * * *"}
    async with shared.cache(**hourly) as cache:
        store = cache.access.runtime.maintenance._store
        await store.update(lambda state: MaintenanceState(covered={"maintenance": 1_000_000.0}))
        both = [programs(shared.config(**hourly)) for _ in range(2)]

        state = await until(
            cache, lambda state: state.leader is not None and state.leader.beat > 8, "beats"
        )

        [run] = state.history
        assert run.by in [program.name for program in both]
        assert run.due == 1_000_800.0, "the first time that was missed stands for all of them"
        assert state.covered["maintenance"] >= run.began


@DISK
async def test_a_run_that_is_paused_goes_on_where_it_was(shared):
    async with shared.cache("asked", **SLOW) as cache:
        old, new = await fill(cache, shared)
        maintenance = cache.access.runtime.maintenance
        request = await begun(cache)

        await cache.pause_maintenance()
        async with asyncio.timeout(10):
            await asyncio.gather(*[each.task for each in maintenance._running.values()])
        stopped = (await cache.get_maintenance()).runs["maintenance"].jobs[0]
        assert stopped.looked < ENTRIES
        with pytest.raises(CacheError, match="it goes on once it is resumed"):
            await ended(cache, request)

        await cache.resume_maintenance()
        run = await ended(cache, request)

        [job] = run.jobs
        assert (run.resumed, job.outcome, job.looked) == (1, "done", ENTRIES + STATE)
        assert job.removed == len(old)
        assert {key: await version(cache, key) for key in new} == new


STATE = 1
"""The entry that holds the state of maintenance is looked at too, and stays."""


@DISK
async def test_a_run_whose_time_is_over_is_gone_on_with_by_the_next(shared):
    async with shared.cache("asked", **SLOW, time_budget=1) as cache:
        old, _ = await fill(cache, shared)
        looked, removed = 0, 0
        runs: list[MaintenanceRun] = []

        while not runs or runs[-1].outcome == "out of time":
            runs.append(await cache.run_maintenance())
            [job] = runs[-1].jobs
            looked, removed = looked + job.looked, removed + job.removed

        assert [run.outcome for run in runs[-1:]] == ["done"]
        assert 2 <= len(runs) <= 4
        assert (looked, removed) == (ENTRIES + STATE, len(old))
        assert (await cache.get_maintenance()).left == {}


@DISK
async def test_nobody_is_told_of_what_maintenance_keeps_for_itself(shared):
    async with shared.cache("asked") as cache, shared.cache() as other:
        async with other.subscribe() as events:
            await cache.run_maintenance()
            await cache.set("told", 1)

            async with asyncio.timeout(10):
                event = await anext(events)

        assert getattr(event, "key", None) == "told"


@DISK
async def test_a_job_that_the_leader_does_not_know_fails_and_says_so(shared, programs):
    async with shared.cache(tasks=[{"type": "compact"}]) as cache:
        leader = programs(shared.config())
        leader.leads()
        maintenance = cache.access.runtime.maintenance

        run = await ended(cache, await maintenance.ask("maintenance", ["compact"]))

        assert run.outcome == "failed"
        assert f"no task 'compact' in the configuration of {leader.name}" in run.jobs[0].error
