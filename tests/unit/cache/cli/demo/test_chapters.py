"""Each chapter's measurement on a small stage: what it claims to show must be what happens."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import OrderedDict
from functools import cache

import pytest
from rich.console import Console

from clusterdb.cache.cli.demo import (
    closing,
    latency,
    policies,
    race,
    restart,
    shared,
    stampede,
    tagging,
    updates,
)
from clusterdb.cache.cli.demo import stage as setting
from clusterdb.cache.cli.demo.origin import Module, find_modules
from clusterdb.cache.cli.demo.server import found_redis
from clusterdb.cache.cli.demo.stage import Size, set_up
from clusterdb.cache.replay import optimum

SMALL = Size(
    requests=40,
    trace=2000,
    capacities=(16, 5000),
    tagged=(3, 30),
    callers=50,
    workers=3,
    modules_tallied=12,
    processes=2,
    reads=300,
)


@cache
def modules(seed: int) -> tuple[Module, ...]:
    """Those of the standard library, read once for all stages."""
    return tuple(find_modules(seed))


@pytest.fixture
async def stage(monkeypatch):
    monkeypatch.setattr(setting, "find_modules", lambda seed: list(modules(seed)))
    console = Console(file=io.StringIO(), width=80)
    async with set_up(console, 1, SMALL) as stage:
        yield stage


async def test_a_warm_cache_loads_nothing(stage):
    found = await latency.measure(stage)
    without, cold, warm = found.passes

    assert [len(each.seconds) for each in found.passes] == [40, 40, 40]
    assert (without.loads, cold.loads, warm.loads) == (40, found.modules, 0)
    assert without.total > warm.total
    assert sum(times for times, _ in found.popular) <= 40


def lru(keys: list[str], capacity: int) -> int:
    held: OrderedDict[str, None] = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
            held.move_to_end(key)
            continue
        if len(held) == capacity:
            held.popitem(last=False)
        held[key] = None
    return hits


async def test_hit_ratios_are_those_of_a_plain_model(stage):
    found = await policies.measure(stage)
    keys = [str(key) for key in stage.trace[:2000]]
    hits = {(run.policy, run.capacity): run.hits for run in found.runs}

    assert {run.hits + run.misses for run in found.runs} == {found.requests} == {2000}
    assert hits["lru", 16] == lru(keys, 16)
    assert found.best[16] == optimum(keys, 16) / 2000
    best = 2000 - found.keys
    assert {hits[policy, 5000] for policy, capacity in hits if capacity == 5000} == {best}
    assert {run.evictions for run in found.runs if run.capacity == 5000} == {0}


async def test_a_tag_ends_its_entries_and_no_others(stage):
    await latency.measure(stage)
    found = await tagging.measure(stage)

    assert found.tag == "package:asyncio"
    assert found.tagged > 10
    assert (found.ended, found.alive) == (found.tagged, 0)
    assert found.left == found.others > 10
    assert found.reloads == 1
    assert [(cost.entries, cost.ended) for cost in found.costs] == [(3, 3), (30, 30)]


async def test_a_stampede_loads_once(stage):
    found = await stampede.measure(stage)

    assert (found.ours.callers, found.ours.loads, found.joined) == (50, 1, 49)
    assert found.ours.different == 1  # all were given the one result
    assert found.naive.loads == 50


async def test_atomic_updates_lose_nothing(stage):
    found = await updates.measure(stage)
    naive, checked, incremented = found.tallies

    assert naive.modules < found.modules
    for tally in (checked, incremented):
        assert (tally.lines, tally.modules) == (found.lines, found.modules)
    assert checked.retries > 0


async def test_an_update_that_leaves_the_total_as_it_was_is_not_lost_either(stage):
    tally = await updates._tally(stage, "empty modules", updates._check_and_set, [0] * 12)

    assert (tally.lines, tally.modules) == (0, 12)


async def test_an_invalidation_beats_the_load_it_races(stage):
    found = await race.measure(stage)

    assert found.after == found.before + 1
    assert found.ours == race.Outcome(racing=found.before, next=found.after)
    assert found.naive == race.Outcome(racing=found.before, next=found.before)
    assert found.lost_fills == 1


async def test_the_statistics_are_those_of_the_chapters_before(stage):
    await latency.measure(stage)
    await race.measure(stage)
    stats = await closing.measure(stage)

    assert stats.regions["modules"].loads == stage.origin.calls - SMALL.requests
    assert stats.total.lost_fills == 1


@pytest.mark.process
async def test_a_killed_process_leaves_a_warm_cache(stage):
    found = await restart.measure(stage)

    first, second = found.lives
    assert first.loads == first.modules > 0
    assert (second.loads, second.modules) == (0, first.modules)


needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server")


@pytest.mark.server
@needs_redis
async def test_processes_that_share_a_redis_load_once_and_see_a_tag_end(stage):
    found = await shared.measure(stage)

    assert sum(rush.loads for rush in found.rushes) == 1
    assert [len(rush.seconds) for rush in found.rushes] == [100, 100]
    assert found.tagged is not None
    assert found.tagged.entries > 10
    assert found.tagged.before == [found.tagged.entries] * 2
    assert found.tagged.after == [0, 0]
    assert found.reads[0].client == "clusterdb.cache"
    assert all(reads.seconds > 0 for reads in found.reads)


@pytest.mark.server
@needs_redis
async def test_the_server_of_the_demo_ends_with_it():
    async with found_redis(None) as place:
        pid = pid_at(place.url.removeprefix("unix://"))
        assert is_there(pid)
    assert not is_there(pid)


@pytest.mark.server
@needs_redis
def test_the_server_of_the_demo_ends_when_the_demo_is_killed(tmp_path):
    script = (
        "import asyncio\nfrom clusterdb.cache.cli.demo.server import found_redis\n"
        "async def main():\n async with found_redis(None) as place:\n"
        "  print(place.url, flush=True)\n  await asyncio.sleep(60)\nasyncio.run(main())"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    with running:
        assert running.stdout is not None
        pid = pid_at(running.stdout.readline().strip().removeprefix("unix://"))
        assert is_there(pid)
        running.kill()
    end = time.monotonic() + 10
    while is_there(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_there(pid)


def pid_at(path: str) -> int:
    """The process of the server that listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(path)
        line.sendall(b"INFO server\r\n")
        [said] = re.findall(rb"process_id:(\d+)", line.recv(1 << 16))
    return int(said)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_without_a_server_the_chapter_says_how_to_get_one(stage, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = await shared.measure(stage)

    assert list(shared.show(found)) == [found.words]
    assert "apt-get install redis-server" in found.words
    assert "--redis redis://localhost:6379" in found.words
