"""A process that writes through a cache, tells what was acknowledged, and may die at a failpoint.

Reads a JSON object from its arguments: the configuration as a file has it, the operations, or over
how many keys to write for ever, the failpoint at which to die and at which of its hits. Each
acknowledged operation is a line.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from itertools import count
from typing import Any

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.failpoints import FAILPOINTS


def die_at(point: str, nth: int, how: str) -> None:
    """Kill, or stop, this process the ``nth`` time it is at ``point``."""
    hits = count(1)

    async def hook() -> None:
        if next(hits) == nth:
            print(json.dumps(["at", point]), flush=True)
            os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGSTOP)

    FAILPOINTS[point] = hook


def operations(task: dict[str, Any]) -> Iterable[list[Any]]:
    """What to do, in order."""
    if "keys" not in task:
        found: list[list[Any]] = task["do"]
        return found
    return (["set", f"k{at % task['keys']}", at] for at in count())


async def run(task: dict[str, Any]) -> None:
    cache = Cache(CacheConfig.from_dict(task["config"]))
    async with cache:
        if task.get("point"):
            die_at(task["point"], task.get("nth", 1), task.get("how", "kill"))
        for name, *arguments in operations(task):
            start = time.monotonic()
            try:
                answer = await getattr(cache, name)(*arguments)
            except Exception as error:  # noqa: BLE001 - it is the answer
                print(json.dumps(["failed", name, *arguments, repr(error)]), flush=True)
                continue
            line = ["ok", name, *arguments, answer, start, time.monotonic()]
            print(json.dumps(line), flush=True)
        if task.get("linger"):
            print(json.dumps(["lingers"]), flush=True)
            await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
