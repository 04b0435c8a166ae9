"""A cache on Redis beside the Redis clients: 256 tasks and one, reads and writes, on one server and
on a Cluster of three primaries. Starts the servers itself; under eight minutes.

Values are dicts of four fields. Ours does the whole work of a cache: an envelope with its checksum,
the expiry of each read. The others store the MessagePack of the value and read it back; that is all
they do. The near tier is off: it is the way to the server that is measured.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from _report import RESULTS, ROOT, Report, Row, Section, judge, version
from _rounds import Times, alternate, spread, summary, versus
from _workload import SEED, TTL, make_keys, zipf

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import Redis

# The servers are those of the tests.
sys.path.insert(0, str(ROOT))
start = import_module("tests.redis.servers").start

OURS, AGAIN = "clusterdb", "clusterdb again"
REDIS_PY, PIPELINE, GLIDE, COREDIS = "redis-py", "redis-py pipelines", "valkey-glide", "coredis"
TASKS = 256
PIPELINED = 100
PRIMARIES = 3
HOST = "127.0.0.1"

Get = Callable[[str], Awaitable[Any]]
Put = Callable[[str, Any], Awaitable[Any]]


@dataclass(frozen=True)
class Subject:
    """A client, with how it reads and writes one key; ``many`` reads several in one round trip."""

    get: Get
    put: Put
    many: Callable[[Sequence[str]], Awaitable[Sequence[Any]]] | None = None
    distribution: str = ""


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def size(quick: bool) -> dict[str, int]:
    if quick:
        return {"keys": 500, "requests": 2_000, "rounds": 2, "seed": SEED}
    return {"keys": 10_000, "requests": 20_000, "rounds": 7, "seed": SEED}


def value_of(number: int) -> dict[str, Any]:
    """About 100 bytes as MessagePack."""
    return {"id": number, "name": f"user {number}", "mail": "x" * 60, "active": True}


# --- the clients ---------------------------------------------------------------------------------

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode


def decoded(data: bytes | None) -> Any:
    return None if data is None else decode(data)


async def ours(stack: AsyncExitStack, ports: Sequence[int], cluster: bool, name: str) -> Subject:
    urls = [f"redis://{HOST}:{port}" for port in ports]
    config = CacheConfig(name=name, backend=Redis(urls=urls, cluster=cluster, near=False))
    cache = await stack.enter_async_context(Cache(config))
    return Subject(cache.get, partial(cache.set, ttl=TTL))


async def redis_py(stack: AsyncExitStack, ports: Sequence[int], cluster: bool) -> Subject:
    module = import_module("redis.asyncio")
    if cluster:
        client = module.RedisCluster(host=HOST, port=ports[0], max_connections=2 * TASKS)
    else:
        client = module.Redis(host=HOST, port=ports[0], max_connections=2 * TASKS)
    stack.push_async_callback(client.aclose)

    async def get(key: str) -> Any:
        return decoded(await client.get(key))

    async def put(key: str, value: Any) -> None:
        await client.set(key, encode(value), ex=TTL)

    async def many(keys: Sequence[str]) -> list[Any]:
        pipeline = client.pipeline() if cluster else client.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
        return [decoded(data) for data in await pipeline.execute()]

    return Subject(get, put, many, "redis")


async def glide(stack: AsyncExitStack, ports: Sequence[int], cluster: bool) -> Subject:
    module = import_module("glide")
    addresses = [module.NodeAddress(HOST, port) for port in ports]
    if cluster:
        settings = module.GlideClusterClientConfiguration(addresses)
        client = await module.GlideClusterClient.create(settings)
    else:
        client = await module.GlideClient.create(module.GlideClientConfiguration(addresses))
    stack.push_async_callback(client.close)
    expiry = module.ExpirySet(module.ExpiryType.SEC, TTL)

    async def get(key: str) -> Any:
        return decoded(await client.get(key))

    async def put(key: str, value: Any) -> None:
        await client.set(key, encode(value), expiry=expiry)

    return Subject(get, put, None, "valkey-glide")


async def coredis(stack: AsyncExitStack, ports: Sequence[int], cluster: bool) -> Subject:
    module = import_module("coredis")
    kind = module.RedisCluster if cluster else module.Redis
    client = await stack.enter_async_context(kind(host=HOST, port=ports[0]))

    async def get(key: str) -> Any:
        return decoded(await client.get(key))

    async def put(key: str, value: Any) -> None:
        await client.set(key, encode(value), ex=TTL)

    return Subject(get, put, None, "coredis")


PEERS = {
    REDIS_PY: ("redis", redis_py),
    GLIDE: ("valkey-glide", glide),
    COREDIS: ("coredis", coredis),
}


@asynccontextmanager
async def subjects(ports: Sequence[int], cluster: bool) -> AsyncIterator[dict[str, Subject]]:
    async with AsyncExitStack() as stack:
        made = {
            OURS: await ours(stack, ports, cluster, "once"),
            AGAIN: await ours(stack, ports, cluster, "again"),
        }
        for name, (distribution, make) in PEERS.items():
            if version(distribution):
                made[name] = await make(stack, ports, cluster)
        yield made


class Holder:
    """Opens and closes the clients in one task, as some of them want it."""

    def __init__(self, ports: Sequence[int], cluster: bool) -> None:
        self._where = ports, cluster
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> dict[str, Subject]:
        self._done = asyncio.Event()
        made: asyncio.Future[dict[str, Subject]] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold(made))
        await asyncio.wait([made, self._task], return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        return made.result()

    async def _hold(self, made: asyncio.Future[dict[str, Subject]]) -> None:
        async with subjects(*self._where) as opened:
            made.set_result(opened)
            await self._done.wait()

    async def aclose(self) -> None:
        self._done.set()
        if self._task is not None:
            await self._task


# --- the work ------------------------------------------------------------------------------------


async def spread_out(
    work: Callable[[Any], Awaitable[Any]], items: Sequence[Any], tasks: int
) -> int:
    """Nanoseconds until ``tasks`` tasks have done the work of all items."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    started = perf_counter_ns()
    await asyncio.gather(*[worker() for _ in range(tasks)])
    return perf_counter_ns() - started


def timed(
    runner: asyncio.Runner, work: Any, items: Sequence[Any], tasks: int, each: int = 1
) -> Any:
    """A function that does the work once, and says what one of ``each`` a call cost."""
    return lambda: runner.run(spread_out(work, items, tasks)) / (len(items) * each)


class Work:
    """The rounds of one kind of servers."""

    def __init__(
        self, runner: asyncio.Runner, made: dict[str, Subject], settings: dict[str, int]
    ) -> None:
        self.runner = runner
        self.made = made
        self.rounds = settings["rounds"]
        self.keys = make_keys(settings["keys"])
        self.requests = zipf(self.keys, settings["requests"], settings["seed"])
        self.values = {key: value_of(number) for number, key in enumerate(self.keys)}

    def fill(self) -> None:
        """Store every value by every subject, and read one back."""
        for name, subject in self.made.items():
            self.runner.run(spread_out(self.putting(subject), self.keys, TASKS))
            if self.runner.run(read_one(subject, self.keys[7])) != self.values[self.keys[7]]:
                raise SystemExit(f"{name} lost {self.keys[7]!r}")

    def putting(self, subject: Subject) -> Get:
        put, values = subject.put, self.values
        return lambda key: put(key, values[key])

    def reads(self, tasks: int, share: int = 1) -> Times:
        requests = self.requests[: len(self.requests) // share]
        rounds = {
            name: timed(self.runner, subject.get, requests, tasks)
            for name, subject in self.made.items()
        }
        for subject in self.made.values():
            if subject.many is not None and tasks > 1:
                chunks = [
                    requests[at : at + PIPELINED] for at in range(0, len(requests), PIPELINED)
                ]
                rounds[PIPELINE] = timed(self.runner, subject.many, chunks, 4, PIPELINED)
        return alternate(rounds, self.rounds)

    def writes(self) -> Times:
        requests = self.requests[: len(self.requests) // 2]
        return alternate(
            {
                name: timed(self.runner, self.putting(subject), requests, TASKS)
                for name, subject in self.made.items()
            },
            self.rounds,
        )

    def processor(self) -> Times:
        """What this process computes for one read, waiting not counted."""

        def spent(get: Get) -> float:
            before = time.process_time_ns()
            self.runner.run(spread_out(get, self.requests, TASKS))
            return (time.process_time_ns() - before) / len(self.requests)

        return alternate(
            {name: partial(spent, subject.get) for name, subject in self.made.items()},
            min(3, self.rounds),
        )


async def read_one(subject: Subject, key: str) -> Any:
    return await subject.get(key)


# --- tables --------------------------------------------------------------------------------------


def rows(times: Times, made: dict[str, Subject], per_second: bool = True) -> list[Row]:
    """A row a subject in microseconds, the cheapest first, with its ratio to ours."""
    found = []
    for name, samples in times.items():
        cost, ratio = summary(samples), versus(times, name, OURS).median
        subject = made.get(REDIS_PY if name == PIPELINE else name)
        release = version(subject.distribution) if subject and subject.distribution else ""
        note = f"{1e9 / cost.median:,.0f}/s" if per_second else ""
        figures = (cost.median / 1000, cost.low / 1000, cost.high / 1000)
        found.append(Row(name, *figures, release, note, ratio))
    return sorted(found, key=lambda row: row.value)


def control(times: Times) -> str:
    ratio = versus(times, AGAIN, OURS)
    return f"A/A control: again / once {ratio.median:.3f} ({ratio.low:.3f}..{ratio.high:.3f})"


def add(report: Report, title: str, times: Times, made: dict[str, Subject], **options: Any) -> None:
    section = Section(title, "us", "x ours", rows(times, made, **options), control(times), 1)
    report.sections.append(section)


def target(report: Report, name: str, times: Times, peer: str, bound: float, what: str) -> None:
    if peer in times:
        ratio = versus(times, peer, OURS).median
        noise = spread(times, OURS, AGAIN)
        report.verdicts.append(judge(name, f"{what}: {peer} / ours", ratio, ">=", bound, noise))


def measure_on(report: Report, kind: str, settings: dict[str, int]) -> None:
    cluster = kind == "cluster"
    where = f"a Cluster of {PRIMARIES} primaries" if cluster else "one server"
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        deployment = start(kind, Path(folder))
        try:
            ports = [server.port for server in deployment.servers[: PRIMARIES if cluster else 1]]
            with asyncio.Runner() as runner:
                holder = Holder(ports, cluster)
                made = runner.run(holder.open())
                work = Work(runner, made, settings)
                work.fill()
                reads, writes = work.reads(TASKS), work.writes()
                alone, spent = work.reads(1, share=10), work.processor()
                runner.run(holder.aclose())
        finally:
            deployment.stop()
    add(report, f"A get among {TASKS} tasks, {where}", reads, made)
    add(report, f"A set among {TASKS} tasks, {where}", writes, made)
    add(report, f"A get of one task alone, {where}", alone, made)
    add(report, f"Processor time of a get among {TASKS} tasks, {where}", spent, made,
        per_second=False)  # fmt: skip
    target(report, "P3", reads, REDIS_PY, 5 if cluster else 6, f"get, {where}")
    if not cluster:
        target(report, "P3", reads, GLIDE, 3, f"get, {where}")
        target(report, "P4", writes, REDIS_PY, 5, f"set, {where}")
        target(report, "P5", alone, REDIS_PY, 1, f"one task, {where}")


def measure(quick: bool) -> Report:
    settings = size(quick)
    versions = {distribution: version(distribution) for distribution, _ in PEERS.values()}
    report = Report("redis", settings, versions=versions)
    for kind in ("standalone", "cluster"):
        measure_on(report, kind, settings)
    return report


def main() -> None:
    options = arguments()
    report = measure(options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "redis.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
