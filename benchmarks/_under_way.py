"""What a client needs in memory while thousands of commands are under way at the same time.

Each subject runs in a process of its own, beside a server of its own: it opens, reads a few keys,
and then starts all gets in one turn of the event loop. The figure is how far the resident set grew
at its peak meanwhile. A task a get is part of it, for everybody; a row of tasks that wait for
nothing says how much of it that is. redis-py may open a connection for each command, as it needs.

Run as a program, it is that process: ``_under_way.py SUBJECT PORT COMMANDS``.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from _clients import AGAIN, HOST, OURS, PEERS, REDIS_PY, open_subject
from _report import ROOT, Row, Section, version
from _rounds import alternate, summary, versus
from memory import resident

from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import PoolConfig
from clusterdb.cache.transport import Endpoint, Node

__all__ = ["measure_under_way"]

CONNECTION = "clusterdb, its connection alone"
TASKS_ALONE = "tasks that wait, without a client"
_SPARE_FILES = 200
_WITHIN = 120


# --- inside a subject's own process --------------------------------------------------------------


def peak() -> int:
    """The most bytes that this process had in memory since `forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell the peak of a process's memory")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


async def begin_all(subject: str, port: int, keys: Sequence[str]) -> int:
    """Open the client, start a get of each key, and say by how much the process grew."""
    async with AsyncExitStack() as stack:
        if subject == CONNECTION:
            ask = await _connection(stack, port)
        elif subject == TASKS_ALONE:
            ask = _waits
        else:
            more = {"connections": len(keys)} if subject == REDIS_PY else {}
            client = await open_subject(stack, subject, [port], cluster=False, **more)
            for key in keys[:100]:
                await client.put(key, {"id": 1})
            ask = client.get
        await asyncio.gather(*[ask(key) for key in keys[:100]])
        before = resident()
        forget_peak()
        await asyncio.gather(*[ask(key) for key in keys])
        return peak() - before


async def _connection(stack: AsyncExitStack, port: int) -> Callable[[str], Any]:
    """One connection of ours, without the cache above it."""
    now = SystemClock().now
    node = Node(Endpoint(HOST, port), PoolConfig(), now)
    stack.push_async_callback(node.aclose)
    connection = await node.open(now() + 5)
    return lambda key: connection.call(("GET", key), now() + _WITHIN)


async def _waits(key: str) -> None:  # noqa: ARG001 - a task, and nothing else
    await asyncio.sleep(0.2)


def main(subject: str, port: str, commands: str) -> None:
    keys = [f"under-way:{number}" for number in range(int(commands))]
    print(json.dumps(asyncio.run(begin_all(subject, int(port), keys))))


# --- outside -------------------------------------------------------------------------------------


def measure_one(subject: str, commands: int) -> float:
    """Bytes a command, of a process of the subject's own."""
    servers: Any = import_module("tests.redis.servers")
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        options = ["--maxclients", str(commands + _SPARE_FILES), "--tcp-backlog", "4096"]
        deployment = servers.standalone(Path(folder), options=options)
        try:
            port = deployment.servers[0].port
            command = [sys.executable, __file__, subject, str(port), str(commands)]
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, check=False, timeout=_WITHIN
            )
        finally:
            deployment.stop()
    if done.returncode:
        raise SystemExit(f"{subject} could not be measured:\n{done.stderr}")
    return float(json.loads(done.stdout)) / commands


def measure_under_way(commands: int, rounds: int) -> Section:
    """A row a subject; as many commands as the limit of open files leaves connections for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    commands = min(commands, soft - _SPARE_FILES)
    installed = [name for name, (distribution, _) in PEERS.items() if version(distribution)]
    names = [OURS, AGAIN, CONNECTION, TASKS_ALONE, *installed]
    rounds_of = {name: partial(measure_one, name, commands) for name in names}
    times = alternate(rounds_of, rounds, warm_up=False)
    rows = []
    for name, samples in times.items():
        grown, ratio = summary(samples), versus(times, name, OURS).median
        release = version(PEERS[name][0]) if name in PEERS else ""
        note = f"{grown.median * commands / 1e6:,.1f} MB in all"
        rows.append(Row(name, grown.median, grown.low, grown.high, release, note, ratio))
    rows.sort(key=lambda row: row.value)
    again = versus(times, AGAIN, OURS)
    control = f"A/A control: again / once {again.median:.3f} ({again.low:.3f}..{again.high:.3f})"
    title = f"Memory of {commands:,} gets under way at the same time, one server"
    return Section(title, "bytes a get", "x ours", rows, control)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(*sys.argv[1:])
