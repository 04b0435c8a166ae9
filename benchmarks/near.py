"""The near tier over Redis: what a hit costs, what tracking costs a write, and how soon another
process sees a change. Starts its server itself; under two minutes.

Beside the latency of ours stands a bare near cache of forty lines on the same parser: it drops what
the server pushes and asks again, and that is all it does. Two moments are taken of each change: the
start of the first read that was not given the old value any more, which is when the invalidation
had arrived; and the end of that read, a round trip later.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from _report import RESULTS, ROOT, Report, Row, Section, judge
from _rounds import Times, alternate, spread, summary, time_calls, versus
from _workload import SEED, make_keys, zipf
from hiredis import PushNotification, Reader, pack_command

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import LRU, CachePolicy, Redis

sys.path.insert(0, str(ROOT))
start = import_module("tests.redis.servers").start

NEAR, AGAIN, MEMORY = "clusterdb near", "clusterdb near again", "clusterdb memory"
TRACKED, PLAIN = "tracking on", "tracking off"
TASKS = 256
HOST = "127.0.0.1"
BETWEEN = 0.002


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--reader", choices=["bare", "cache"], help="used by the bench itself")
    parser.add_argument("--port", type=int, help="used by the bench itself")
    parser.add_argument("--changes", type=int, default=1000, help="used by the bench itself")
    return parser.parse_args()


def config(port: int, near: bool, name: str) -> CacheConfig:
    redis = Redis(urls=[f"redis://{HOST}:{port}"], near=near)
    return CacheConfig(name=name, backend=redis)


# --- a hit ---------------------------------------------------------------------------------------


def hits(port: int, settings: dict[str, int]) -> Times:
    keys = make_keys(settings["keys"])
    requests = zipf(keys, settings["requests"], settings["seed"])
    values = {key: {"id": number, "name": "x" * 60} for number, key in enumerate(keys)}
    memory = CacheConfig(policy=CachePolicy(eviction=LRU(max_items=len(keys))))
    with (
        Cache(config(port, True, "once")).sync as once,
        Cache(config(port, True, "again")).sync as again,
        Cache(memory).sync as here,
    ):
        for cache in (once, again, here):
            for at in range(0, len(keys), 1000):
                cache.set_many({key: values[key] for key in keys[at : at + 1000]}, ttl=3600)
        time.sleep(1)  # until the server is tracked
        for cache in (once, again):
            for _ in range(2):
                for at in range(0, len(keys), 1000):
                    cache.get_many(keys[at : at + 1000])
            if cache.lookup(keys[0]).tier != "near":
                raise SystemExit("what was read is not near")
        return alternate(
            {
                NEAR: lambda: time_calls(once.get, requests),
                AGAIN: lambda: time_calls(again.get, requests),
                MEMORY: lambda: time_calls(here.get, requests),
            },
            settings["rounds"],
        )


# --- a write -------------------------------------------------------------------------------------


def writes(port: int, settings: dict[str, int]) -> Times:
    keys = make_keys(settings["writes"])

    async def put(cache: Cache) -> float:
        queue = iter(keys)

        async def worker() -> None:
            for key in queue:
                await cache.set(key, {"id": 1, "name": "x" * 60}, ttl=3600)

        began = time.perf_counter_ns()
        await asyncio.gather(*[worker() for _ in range(TASKS)])
        return (time.perf_counter_ns() - began) / len(keys)

    async def warm(cache: Cache) -> None:
        await cache.start()
        await put(cache)
        await asyncio.sleep(1)
        await cache.get_many(keys)  # the tracked server has something to tell at each write

    with asyncio.Runner() as runner:
        made = {name: Cache(config(port, near, "writes")) for name, near in
                ((TRACKED, True), (f"{TRACKED} again", True), (PLAIN, False))}  # fmt: skip
        for cache in made.values():
            runner.run(warm(cache))
        times = alternate(
            {name: lambda cache=cache: runner.run(put(cache)) for name, cache in made.items()},  # type: ignore[misc]
            settings["rounds"],
        )
        for cache in made.values():
            runner.run(cache.aclose())
    return times


# --- a change that another process sees ----------------------------------------------------------


class Bare(asyncio.Protocol):
    """The least that a near cache of one key can be."""

    def __init__(self) -> None:
        self.value: bytes | None = None
        self.answer = b""
        self._reader = Reader()
        self._asked = False
        self.replied = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        for command in (("HELLO", "3"), ("CLIENT", "TRACKING", "ON")):
            transport.write(pack_command(command))

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, PushNotification):
                self.value = None
            elif self._asked and isinstance(reply, bytes) and reply.isdigit():
                self.value = self.answer = reply
                self.replied.set()

    async def get(self) -> bytes:
        if self.value is None:
            self._asked = True
            self.replied.clear()
            self.transport.write(pack_command(("GET", "bare")))
            await self.replied.wait()
            return self.answer  # the next change may have come behind it already
        return self.value

    def set(self, value: int) -> None:
        self.transport.write(pack_command(("SET", "bare", str(value))))


Moments = list[tuple[int, int]]
"""Of each change, in nanoseconds since it was sent: until the old value was served no more, and
until the new one was read.
"""


async def follow(read: Callable[[], Awaitable[int]], changes: int) -> Moments:
    """Read without a pause until so many changes were seen."""
    seen, found = 0, []
    while len(found) < changes:
        began = time.monotonic_ns()
        value = await read()
        if value != seen:
            found.append((began - value, time.monotonic_ns() - value))
            seen = value
        await asyncio.sleep(0)
    return found


async def read_bare(port: int, changes: int) -> Moments:
    _, bare = await asyncio.get_running_loop().create_connection(Bare, HOST, port)

    async def read() -> int:
        return int(await bare.get())

    return await follow(read, changes)


async def read_cache(port: int, changes: int) -> Moments:
    async with Cache(config(port, True, "seen")) as cache:
        await asyncio.sleep(1)

        async def read() -> int:
            value: int = await cache.get("k", 0)
            return value

        return await follow(read, changes)


async def write_on(port: int, kind: str, reader: subprocess.Popen[bytes]) -> None:
    """Write the time until the reader has seen enough."""
    if kind == "bare":
        _, bare = await asyncio.get_running_loop().create_connection(Bare, HOST, port)
        while reader.poll() is None:
            bare.set(time.monotonic_ns())
            await asyncio.sleep(BETWEEN)
        return
    async with Cache(config(port, False, "seen")) as cache:
        while reader.poll() is None:
            await cache.set("k", time.monotonic_ns())
            await asyncio.sleep(BETWEEN)


def latency(port: int, kind: str, changes: int) -> tuple[list[float], list[float]]:
    """What a reader of a kind found, the two moments apart, each sorted."""
    words = [sys.executable, __file__, "--reader", kind, "--port", str(port)]
    words += ["--changes", str(changes)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as reader:  # noqa: S603 - this file
        asyncio.run(write_on(port, kind, reader))
        assert reader.stdout is not None
        found = json.loads(reader.stdout.read())
    found = found[len(found) // 5 :]  # the first ones come while it starts
    return sorted(each[0] for each in found), sorted(each[1] for each in found)


# --- the report ----------------------------------------------------------------------------------


def rows(times: Times, against: str, unit: float) -> list[Row]:
    made = []
    for name, samples in times.items():
        cost = summary(samples)
        figures = (cost.median / unit, cost.low / unit, cost.high / unit)
        made.append(Row(name, *figures, "", "", versus(times, name, against).median))
    return made


def measure(quick: bool) -> Report:
    settings = {
        "keys": 100_000,
        "requests": 200_000,
        "writes": 10_000,
        "rounds": 7,
        "changes": 2000,
    }
    if quick:
        settings = {"keys": 500, "requests": 2_000, "writes": 500, "rounds": 2, "changes": 50}
    settings["seed"] = SEED
    report = Report("near", settings)
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        deployment = start("standalone", Path(folder))
        try:
            port = deployment.servers[0].port
            found = hits(port, settings)
            put = writes(port, settings)
            seen = {kind: latency(port, kind, settings["changes"]) for kind in ("bare", "cache")}
        finally:
            deployment.stop()
    report.sections += [
        Section("A hit of the near tier over Redis, called", "ns", "x memory",
                rows(found, MEMORY, 1.0), "", 0),
        Section(f"A set among {TASKS} tasks", "us", "x off", rows(put, PLAIN, 1000.0), "", 1),
        *[Section(f"From a set until another process {what}", "us", "x bare",
                  [_seen(name, seen[kind][at], seen["bare"][at]) for name, kind in
                   (("bare near cache", "bare"), ("clusterdb near", "cache"))], "", 0)
          for at, what in enumerate(("serves the old value no more", "has read the new one"))],
    ]  # fmt: skip
    noise = spread(found, NEAR, AGAIN)
    ratio = versus(found, NEAR, MEMORY).median
    report.verdicts.append(judge("near", "a hit / the memory backend's", ratio, "<=", 1.2, noise))
    noise = spread(put, TRACKED, f"{TRACKED} again")
    ratio = versus(put, PLAIN, TRACKED).median
    report.verdicts.append(judge("near", "set: tracking off / on", ratio, ">=", 0.8, noise))
    ratio = statistics.median(seen["cache"][0]) / statistics.median(seen["bare"][0])
    what = "invalidation, writer to other process / of a bare near cache"
    report.verdicts.append(judge("near", what, ratio, "<=", 2, 0.0))
    return report


def _seen(name: str, latencies: list[float], bare: list[float]) -> Row:
    low, median, high = statistics.quantiles(latencies, n=4)
    at_worst = f"99%: {latencies[int(len(latencies) * 0.99)] / 1000:,.0f} us"
    compared = median / statistics.median(bare)
    return Row(name, median / 1000, low / 1000, high / 1000, "", at_worst, compared)


def main() -> None:
    options = arguments()
    if options.reader is not None:
        read = read_bare if options.reader == "bare" else read_cache
        print(json.dumps(asyncio.run(read(options.port, options.changes))))
        return
    report = measure(options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "near.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
