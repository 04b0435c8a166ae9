"""Chapter: processes that share a Redis.

Run as a module, it is one of them: ``python -m clusterdb.cache.cli.demo.shared URL SEED PACKAGE``
does what its input says, a line at a time, and answers each in a line.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace
from rich.console import RenderableType

from clusterdb.cache import Cache, CacheConfig, CacheRegion, Redis

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration, percentile, ratio
from .origin import Facts, Module, Origin, find_modules
from .server import found_redis
from .stage import Stage

__all__ = ["CHAPTER", "Reads", "Shared", "measure"]

T = TypeVar("T")

_CALLERS: Final = 100
_TASKS: Final = 256
_ROUNDS: Final = 3
_CHANGES: Final = 20
_BETWEEN: Final = 0.02
_PATIENCE: Final = 30.0
_PACKAGE: Final = "asyncio"


class Rush(msgspec.Struct, frozen=True):
    """How one process took it: ``seconds`` each caller waited."""

    loads: int
    seconds: list[float]


class Tagged(msgspec.Struct, frozen=True):
    """One tag, ended by this process: entries that all processes found before and after it."""

    tag: str
    entries: int
    before: list[int]
    after: list[int]
    seconds: float


class Reads(msgspec.Struct, frozen=True):
    """Reads by one client among many tasks; ``seconds`` a read."""

    client: str
    seconds: float


class Shared(msgspec.Struct, frozen=True):
    """What happened; nothing but ``words`` where there is no Redis. ``crossed``: seconds from each
    change of a value, until a process that had the old one near has read the new one.
    """

    words: str
    module: str = ""
    rushes: list[Rush] = []
    tagged: Tagged | None = None
    crossed: list[float] = []
    reads: list[Reads] = []


def shared_config(url: str, *, near: bool = False) -> CacheConfig:
    """A cache of the demo's own on the Redis at ``url``; its entries end by themselves."""
    config = CacheConfig.from_url(url)
    assert isinstance(config.backend, Redis)
    return CacheConfig(
        name="clusterdb-demo",
        backend=replace(config.backend, near=near),
        regions=(CacheRegion("modules", ttl="5m"),),
    )


# --- one of the processes ------------------------------------------------------------------------


async def take_part(url: str, seed: int, package: str) -> None:
    """Do what each line of the input says, until it ends."""
    origin = Origin(find_modules(seed))
    modules = {module.name: module for module in origin.modules}
    mine = [module for module in origin.modules if module.package == package]
    async with Cache(shared_config(url, near=True)) as cache:
        region = cache.region("modules", type=Facts)

        async def load(module: Module) -> float:
            started = time.perf_counter()
            await region.get_or_load(
                module.name, lambda: origin.load(module), tags=(f"package:{module.package}",)
            )
            return time.perf_counter() - started

        _say("ready")
        while line := (await asyncio.to_thread(sys.stdin.readline)).split():
            if line[0] == "rush":
                module, before = modules[line[1]], origin.calls
                seconds = await asyncio.gather(*[load(module) for _ in range(_CALLERS)])
                _say(Rush(origin.calls - before, seconds))
            elif line[0] == "look":
                _say(len(await region.get_many([module.name for module in mine])))
            elif line[0] == "watch":
                _say(await _watch(cache, int(line[1])))


async def _watch(cache: Cache, changes: int) -> list[float]:
    """Read a value that another process changes to the time, on the clock that all share."""
    seen, found = 0, list[float]()
    async with asyncio.timeout(_PATIENCE / 2):
        while len(found) <= changes:
            value = await cache.get("time", 0)
            if value != seen:
                found.append((time.monotonic_ns() - value) / 1e9)
                seen = value
            await asyncio.sleep(0)
    return found[1:]  # the first was no change


def _say(answer: object) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


# --- the chapter ---------------------------------------------------------------------------------


@asynccontextmanager
async def _processes(stage: Stage, url: str, package: str) -> AsyncIterator[list[Process]]:
    """Processes that take part, ready; they end with the block."""
    arguments = ["-m", __name__, url, "1", package]
    started: list[Process] = []
    try:
        for _ in range(stage.size.processes):
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdin=PIPE, stdout=PIPE, start_new_session=True
            )
            started.append(process)
        await _all(started, "", str)
        yield started
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def _all(processes: Sequence[Process], line: str, kind: type[T]) -> list[T]:
    """Say a line to all processes at once; return their answers."""

    async def ask(process: Process) -> T:
        assert process.stdin is not None
        assert process.stdout is not None
        if line:
            process.stdin.write(line.encode() + b"\n")
        answer = await asyncio.wait_for(process.stdout.readline(), _PATIENCE)
        return msgspec.json.decode(answer, type=kind)

    return await asyncio.gather(*[ask(process) for process in processes])


async def measure(stage: Stage) -> Shared:
    """A stampede and a tag across processes, then reads of this one."""
    async with found_redis(stage.redis) as place:
        if not place.url:
            return Shared(place.words)
        async with Cache(shared_config(place.url)) as cache:
            await cache.clear()  # of a run before that was cut short
            found = await _together(stage, place.url, cache, place.words)
            found = replace(found, reads=await _reads(stage, cache))
            await cache.clear()
    return found


async def _together(stage: Stage, url: str, cache: Cache, words: str) -> Shared:
    packages = {module.package for module in stage.origin.modules}
    package = _PACKAGE if _PACKAGE in packages else stage.origin.modules[0].package
    mine = [module for module in stage.origin.modules if module.package == package]
    module = max(mine, key=lambda module: module.lines)
    tag = f"package:{package}"
    async with _processes(stage, url, package) as processes:
        rushes = await _all(processes, f"rush {module.name}", Rush)
        region = cache.region("modules", type=Facts)
        with stage.progress("loading a package", len(mine)) as advance:
            for each in mine:
                await region.get_or_load(
                    each.name, lambda each=each: stage.origin.load(each), tags=(tag,)
                )
                advance(1)
        before = await _all(processes, "look", int)
        started = time.perf_counter()
        await cache.invalidate_tag(tag)
        seconds = time.perf_counter() - started
        after = await _all(processes, "look", int)
        crossed = await _change(cache, processes)
    tagged = Tagged(tag, len(mine), before, after, seconds)
    return Shared(words, module.name, rushes, tagged, crossed)


async def _change(cache: Cache, processes: Sequence[Process]) -> list[float]:
    """Change a value until all processes have seen enough of it."""
    watching = asyncio.create_task(_all(processes, f"watch {_CHANGES}", list[float]))
    while not watching.done():
        await cache.set("time", time.monotonic_ns())
        await asyncio.wait([watching], timeout=_BETWEEN)
    return sorted(seconds for found in await watching for seconds in found)


async def _reads(stage: Stage, cache: Cache) -> list[Reads]:
    """The same entries read by the cache, and by redis-py where it is installed, in turn."""
    region = cache.region("modules", type=Facts)
    facts = [stage.origin.load(module) for module in stage.origin.modules[:20]]
    await region.set_many({each.name: each for each in facts})
    names = [facts[at % len(facts)].name for at in range(stage.size.reads)]
    async with AsyncExitStack() as stack:
        clients: dict[str, Callable[[str], Awaitable[object]]] = {"clusterdb.cache": region.get}
        peer = await _redis_py(stack, cache.config, facts)
        if peer is not None:
            clients["redis-py"] = peer
        spent: dict[str, list[float]] = {client: [] for client in clients}
        with stage.progress("reading from Redis", _ROUNDS * len(clients)) as advance:
            for _ in range(_ROUNDS):
                for client, get in clients.items():
                    spent[client].append(await _read_all(get, names) / len(names))
                    advance(1)
    return [Reads(client, median(seconds)) for client, seconds in spent.items()]


async def _read_all(get: Callable[[str], Awaitable[object]], names: Sequence[str]) -> float:
    """Seconds in which many tasks read all ``names``."""
    queue = iter(names)

    async def work() -> None:
        for name in queue:
            await get(name)

    started = time.perf_counter()
    await asyncio.gather(*[work() for _ in range(_TASKS)])
    return time.perf_counter() - started


async def _redis_py(
    stack: AsyncExitStack, config: CacheConfig, facts: Sequence[Facts]
) -> Callable[[str], Awaitable[object]] | None:
    """How redis-py reads the same values, as MessagePack; ``None`` where it can't be compared."""
    assert isinstance(config.backend, Redis)
    if config.backend.cluster or len(config.backend.urls) > 1 or find_spec("redis") is None:
        return None
    module = import_module("redis.asyncio")
    client = module.Redis.from_url(config.backend.urls[0], max_connections=2 * _TASKS)
    stack.push_async_callback(client.aclose)
    for each in facts:
        key = f"clusterdb-demo:plain:{each.name}"
        await client.set(key, msgspec.msgpack.encode(each), ex=60)

    async def get(name: str) -> object:
        data = await client.get(f"clusterdb-demo:plain:{name}")
        return msgspec.msgpack.decode(data, type=Facts)

    return get


def show(found: Shared) -> Iterable[RenderableType]:
    """The processes side by side, then the clients."""
    yield found.words
    if found.tagged is None:
        return
    table = plain_table(f"{found.module}, by", "callers", "loads", "wait p50", "longest")
    for number, rush in enumerate(found.rushes, 1):
        seconds = sorted(rush.seconds)
        half, longest = duration(percentile(seconds, 0.5)), duration(seconds[-1])
        table.add_row(f"process {number}", count(len(seconds)), count(rush.loads), half, longest)
    yield table
    tagged = found.tagged
    table = plain_table(f"tag {tagged.tag}", "found before", "found after")
    for number, (before, after) in enumerate(zip(tagged.before, tagged.after, strict=True), 1):
        table.add_row(f"process {number}", count(before), count(after))
    yield table
    yield (
        f"One invalidate_tag() of another process, in {duration(tagged.seconds)}, ended all "
        f"{count(tagged.entries)}."
    )
    half, longest = duration(percentile(found.crossed, 0.5)), duration(found.crossed[-1])
    yield (
        f"A value that each of them had near, changed here {count(_CHANGES)} times and more: they "
        f"read the new one {half} after it was sent (p50), at the latest {longest}."
    )
    ours = found.reads[0]
    table = plain_table(f"get, {_TASKS} tasks", "a get", "gets a second", "")
    for reads in found.reads:
        beside = "" if reads is ours else f"ours is {ratio(reads.seconds, ours.seconds)} as fast"
        rate = count(round(1 / reads.seconds))
        table.add_row(reads.client, duration(reads.seconds), rate, beside)
    yield table


CHAPTER = Chapter(
    title="Processes that share a Redis",
    about=(
        "Several processes ask for one module in the same moment; a tag ends in all of them; and "
        "this one reads as fast as it can, without a near tier."
    ),
    measure=measure,
    show=show,
)

if __name__ == "__main__":
    asyncio.run(take_part(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
