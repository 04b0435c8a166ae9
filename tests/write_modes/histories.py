"""A process that reads and writes a few keys at random, and records each call as it happens.

Every write has a value of its own. A change is a line before it begins, and a line when it has
ended, so that a process that is killed leaves behind what it had begun.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

from msgspec.structs import replace

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.codec import stamped
from clusterdb.cache.errors import CacheError
from clusterdb.cache.failpoints import FAILPOINTS
from clusterdb.cache.write_modes.fencing import Fences

KEYS = ("a", "b", "c")


def tell(*line: Any) -> None:
    print(json.dumps(line), flush=True)


async def call(cache: Cache, chance: random.Random, value: str) -> None:
    """One call; its lines are: begun or ended, action, key, value, start, end."""
    key, kind = chance.choice(KEYS), chance.random()
    action = "read" if kind < 0.5 else "delete" if kind < 0.6 else "write"
    start = time.monotonic()
    written = value if action == "write" else None
    if action != "read":
        tell("begun", action, key, written, start)
    try:
        if action == "read":
            written = await cache.get(key)
        elif action == "write":
            await cache.set(key, written)
        else:
            await cache.delete(key)
    except CacheError as error:
        tell("failed", action, key, written, start, repr(error))
    else:
        tell("ended", action, key, written, start, time.monotonic())


def lose_the_fence() -> None:
    """A mutant: after the commit the value is stored whatever is there by now."""

    async def fill(self: Fences, made: Any) -> None:
        for item, outcome in made.items():
            if item.copy is not None:
                copy = replace(item.copy, value=stamped(item.copy.value, outcome.version))
                await self._backend.write(item.change.region, [copy])

    Fences.fill = fill  # type: ignore[method-assign]


FEWEST, PATIENCE = 30, 30.0
"""Calls that each client makes on a machine however busy, within seconds more than it was given."""


async def run(task: dict[str, Any]) -> None:
    chance = random.Random(task["seed"])

    async def delay() -> None:
        await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01]))

    for point in ("after-fence", "after-commit-before-put"):
        FAILPOINTS[point] = delay
    if task.get("mutant"):
        lose_the_fence()
    async with Cache(CacheConfig.from_dict(task["config"])) as cache:
        await cache.exists("a")
        tell("ready")
        end = time.monotonic() + task["seconds"]
        latest = end + PATIENCE

        async def client(number: int) -> None:
            at = 0
            while time.monotonic() < end or (at < FEWEST and time.monotonic() < latest):
                await call(cache, chance, f"{task['seed']}-{number}-{at}")
                at += 1

        await asyncio.gather(*[client(number) for number in range(3)])


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
