"""I3, I5 and I6 over recorded histories: processes that are killed, caches that are lost.

The last look at the database, and at each cache, is a read at the end of the history. So a history
that one order explains has lost no acknowledged write, has brought nothing deleted back, and ends
with cache and database agreed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import defaultdict
from math import inf
from typing import Any

import pytest
from tests.coherence.linear import Step, linearizable
from tests.write_modes.histories import KEYS
from tests.write_modes.processes import ROOT, as_file
from tests.write_modes.world import World, until

from clusterdb.cache.config import Redis
from clusterdb.cache.types import MISSING

SECONDS = 2.0


def spawn(
    world: World, mode: str, seed: int, consistency: str, **task: Any
) -> subprocess.Popen[str]:
    config = as_file(world, mode, **task.pop("options", {}))
    config["coherence"]["consistency"] = consistency
    task |= {"config": config, "seed": seed, "seconds": SECONDS}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.write_modes.histories", json.dumps(task)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


def steps_of(text: str, *, reads: bool) -> dict[str, list[Step]]:
    """The calls of one process by key; a change without an end may happen at any time."""
    found: dict[str, list[Step]] = defaultdict(list)
    begun: dict[tuple[str, str, Any, float], None] = {}
    for kind, *line in map(json.loads, text.splitlines()):
        if kind == "ready":
            continue
        action, key, value, start, *rest = line
        if kind == "begun":
            begun[action, key, value, start] = None
            continue
        if kind == "ended":
            begun.pop((action, key, value, start), None)
            if reads or action != "read":
                found[key].append(Step(action, value, start, rest[0]))
        elif "StorageUnavailable" in rest[0]:
            begun.pop((action, key, value, start), None)  # nothing was written
    for action, key, value, start in begun:
        found[key].append(Step(action, value, start, inf))  # type: ignore[arg-type]
    return found


async def history(
    world: World, mode: str, *, consistency: str, reads: bool, lose: bool, **task: Any
) -> dict[str, list[Step]]:
    """Three processes, one of which is killed half way; then the last looks."""
    workers = [spawn(world, mode, seed, consistency, **task) for seed in (1, 2, 3)]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert json.loads(await asyncio.to_thread(worker.stdout.readline)) == ["ready"]
        await asyncio.sleep(SECONDS / 2)
        if lose:
            await _lose(world)
        workers[0].kill()
        texts = [(await asyncio.to_thread(worker.communicate))[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    behind = mode == "write_behind"
    cache = await world.cache("behind", **task["options"]) if behind else await world.cache()
    await world.relayed(cache)
    steps: dict[str, list[Step]] = defaultdict(list)
    for text in texts:
        # What was cut off in the middle of a line had not ended.
        whole = text if text.endswith("\n") else text[: text.rfind("\n") + 1]
        for key, found in steps_of(whole, reads=reads).items():
            steps[key] += found
    assert sum(map(len, steps.values())) > 50
    if mode == "write_behind":
        stored = cache.access.runtime.stored
        assert stored is not None
        await stored.stores[0].behinds["default"].settle()
        await world.relayed(cache)
    for key in KEYS:
        for look in (lambda key=key: world.value(key), lambda key=key: cache.get(key)):
            start = time.monotonic()
            value = await look()
            steps[key].append(
                Step("read", None if value is MISSING else value, start, time.monotonic())
            )
    return steps


async def _lose(world: World) -> None:
    redis = world.backend
    assert isinstance(redis, Redis)
    port = redis.urls[0].rpartition(":")[2].partition("/")[0]
    await asyncio.to_thread(
        subprocess.run, ["redis-cli", "-p", port, "FLUSHALL"], check=True, capture_output=True
    )


pytestmark = [
    pytest.mark.parametrize("storage", ["sqlite", "postgres"], indirect=True),
    pytest.mark.parametrize("backend", ["redis"], indirect=True),
]


async def test_strong_writes_and_reads_have_one_order(world: World):
    """With a process killed in the middle of its writes."""
    steps = await history(world, "write_through", consistency="strong", reads=True, lose=False)
    for key, found in steps.items():
        assert linearizable(found), key


async def test_no_write_is_lost_with_the_cache(world: World):
    """With FLUSHALL and a kill: what was acknowledged is there, what was deleted stays away."""
    steps = await history(world, "write_through", consistency="bounded", reads=False, lose=True)
    for key, found in steps.items():
        assert linearizable(found), key


@pytest.mark.parametrize("durability", ["journal", "replicated"])
async def test_what_was_accepted_is_written_in_order(world: World, durability: str):
    """Written behind, with a kill; the one that was killed is drained by the next start."""
    options = {"durability": durability, "flush_interval": 0.2}
    steps = await history(
        world, "write_behind", consistency="bounded", reads=False, lose=False, options=options
    )
    for key, found in steps.items():
        assert linearizable(found), key


async def test_a_lost_fence_is_noticed(world: World):
    """The harness finds what it looks for: with the fill's guard removed some run goes wrong."""

    async def noticed() -> bool:
        steps = await history(
            world, "write_through", consistency="strong", reads=True, lose=False, mutant=True
        )
        return not all(linearizable(found) for found in steps.values())

    await until(noticed, "a history that no order explains", within=60)
