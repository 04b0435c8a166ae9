"""One process of a run: seeded calls on its cache, each of them recorded.

    python -m tests.coherence.worker ORDERS

It writes `ready`, then does what the lines of its standard input say: `go`, `hog SECONDS`, `quiet`
(stop changing and loading, write `quiet` when all calls have ended), `final` (read every key once,
near and not, write `done`). It ends with its input. See `orders` for its part, `history` for what
it records.
"""

from __future__ import annotations

import asyncio
import mmap
import random
import struct
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from time import monotonic_ns
from typing import Any

from tests.coherence.history import ABSENT, ORIGIN, Kind, Outcome, Recorder, Tier, Value
from tests.coherence.keys import Key
from tests.coherence.mutants import apply
from tests.coherence.noticing import Noticing
from tests.coherence.orders import Orders
from tests.coherence.subjects import opened

from clusterdb.cache import GetOptions
from clusterdb.cache.errors import CacheError, Degraded, OutcomeUnknown
from clusterdb.cache.failpoints import FAILPOINTS

__all__ = ["Origin", "Worker", "main"]

FRESH = GetOptions(consistent=True)
_MOST_AT_ONCE = 200
_ALIEN: Value = (0xFFFE, 0)


class Origin:
    """The versions that loaders read: one number a key and one a tag, shared by all processes.

    Only the owner changes a number.
    """

    PLACES = 4096

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 8 * self.PLACES)

    @classmethod
    def make(cls, path: Path) -> None:
        path.write_bytes(bytes(8 * cls.PLACES))

    @staticmethod
    def place(key: Key) -> int:
        return 2048 + key.tag if key.role == "tagged" else key.number

    def read(self, place: int) -> int:
        number: int = struct.unpack_from("<Q", self._numbers, 8 * place)[0]
        return number

    def write(self, place: int, version: int) -> None:
        struct.pack_into("<Q", self._numbers, 8 * place, version)


class Worker:
    """The calls of one process."""

    def __init__(self, orders: Orders, cache: Any, recorder: Recorder, origin: Origin) -> None:
        self.orders, self.cache, self.recorder, self.origin = orders, cache, recorder, origin
        self.chance = random.Random(orders.seed * 1000 + orders.process)
        self.keys = orders.keys
        mine = [key for key in self.keys if key.reader in (-1, orders.slot)]
        self.registers = [key for key in mine if key.role == "register"]
        self.writable = [key for key in self.registers if key.owner in (-1, orders.slot)]
        self.strong = [key for key in mine if key.role == "strong"]
        self.loaded = [key for key in mine if key.role in ("loaded", "tagged")]
        self.near = self.registers + self.loaded
        self.bumped = [k for k in self.keys if k.role == "loaded" and k.owner == orders.slot]
        tagged = [k for k in self.keys if k.role == "tagged" and k.owner == orders.slot]
        self.tags = sorted({key.tag for key in tagged})
        self.busy: set[tuple[Kind, int]] = set()
        self.awaited: set[Key] = set()
        self.last: dict[int, Any] = {}
        self.number = 0
        self.reading = True
        self.calls: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    # -- values

    def fresh_value(self, key: Key) -> tuple[list[int], Value]:
        """A value that was never written before, and how the history calls it."""
        self.number += 1
        value = (self.orders.process + 1, self.number)
        return [key.number, *value, monotonic_ns()], value

    def seen(self, key: Key, stored: Any) -> Value:
        if stored is None:
            return ABSENT
        where, writer, number, _ = stored
        return (writer, number) if where == key.number else _ALIEN

    # -- reads

    async def get(self, key: Key, *, final: bool = False) -> bool:
        """Whether it had to wait."""
        start = monotonic_ns()
        call = Noticing(self.cache.get(key.name))
        await self._reading(Kind.GET, key, start, call, final=final)
        return call.suspended

    async def get_fresh(self, key: Key, *, final: bool = False) -> None:
        start = monotonic_ns()
        call = Noticing(self.cache.get(key.name, options=FRESH))
        stored = await self._reading(Kind.FRESH, key, start, call, final=final)
        if stored is not None:
            self.last[key.number] = stored

    async def load(self, key: Key) -> None:
        async def loader() -> list[int]:
            began = monotonic_ns()
            version = self.origin.read(Origin.place(key))
            await asyncio.sleep(self.chance.random() ** 2 * self.orders.rates.loading)
            self.recorder.read(Kind.LOADER, key.number, began, (ORIGIN, version))
            return [key.number, ORIGIN, version, began]

        tags = (f"tag:{key.tag}",) if key.tag >= 0 else ()
        start = monotonic_ns()
        call = Noticing(self.cache.get_or_load(key.name, loader, tags=tags))
        await self._reading(Kind.LOAD, key, start, call)

    async def _reading(
        self, kind: Kind, key: Key, start: int, call: Noticing, *, final: bool = False
    ) -> Any:
        try:
            stored = await call
        except CacheError:
            self.recorder.read(kind, key.number, start, ABSENT, outcome=Outcome.FAILED)
            return None
        tier = Tier.BACKEND if call.suspended or kind == Kind.FRESH else Tier.NEAR
        if not self.orders.waits:
            tier = Tier.NONE
        self.recorder.read(kind, key.number, start, self.seen(key, stored), tier=tier, final=final)
        return stored

    async def lookup(self, key: Key) -> None:
        start = monotonic_ns()
        try:
            found = await self.cache.lookup(key.name)
        except CacheError:
            self.recorder.read(Kind.LOOKUP, key.number, start, ABSENT, outcome=Outcome.FAILED)
            return
        value = self.seen(key, found.value) if found else ABSENT
        near = bool(found) and found.tier == "near"
        tier, age = (Tier.NEAR if near else Tier.BACKEND), found.age_bound if found else 0.0
        self.recorder.read(Kind.LOOKUP, key.number, start, value, tier=tier, age=age)

    # -- changes

    async def write(self, key: Key) -> None:
        if self.chance.random() < self.orders.rates.remove:
            kind = self.chance.choice((Kind.DELETE, Kind.INVALIDATE))
            call = self.cache.delete if kind is Kind.DELETE else self.cache.invalidate
            await self._change(kind, key, ABSENT, lambda: call(key.name))
            return
        stored, value = self.fresh_value(key)
        if key.role == "register" and self.chance.random() < self.orders.rates.fleeting:
            ttl = self.chance.randint(100, 1500)
            await self._change(
                Kind.SET,
                key,
                value,
                lambda: self.cache.set(key.name, stored, ttl=ttl / 1000),
                ttl=ttl,
            )
        else:
            await self._change(Kind.SET, key, value, lambda: self.cache.set(key.name, stored))

    async def compare_and_set(self, key: Key) -> None:
        before = self.last.get(key.number)
        if before is None or not hasattr(self.cache, "atomic"):
            return
        stored, value = self.fresh_value(key)
        atomic = self.cache.atomic().check(key.name, before).set(key.name, stored)
        expected = (before[1], before[2])
        await self._change(Kind.CAS, key, value, atomic.execute, expected=expected)

    async def bump(self, key: Key) -> None:
        version = self.origin.read(key.number) + 1
        await self._bumping(Kind.BUMP, key.number, key.number, version, self._invalidate(key))

    def _invalidate(self, key: Key) -> Callable[[], Awaitable[Any]]:
        name = "delete" if self.chance.random() < 0.3 else "invalidate"
        return lambda: getattr(self.cache, name)(key.name)

    async def bump_tag(self, tag: int) -> None:
        place = 2048 + tag
        version = self.origin.read(place) + 1
        await self._bumping(
            Kind.BUMP_TAG, tag, place, version, lambda: self.cache.invalidate_tag(f"tag:{tag}")
        )

    async def _bumping(
        self, kind: Kind, key: int, place: int, version: int, change: Callable[[], Awaitable[Any]]
    ) -> None:
        if (kind, key) in self.busy:
            return
        self.busy.add((kind, key))
        try:
            call = self.recorder.begin(kind, key, (ORIGIN, version))
            self.origin.write(place, version)
            self.recorder.end(call, await self._outcome(change))
        finally:
            self.busy.discard((kind, key))

    async def _change(
        self,
        kind: Kind,
        key: Key,
        value: Value,
        change: Callable[[], Awaitable[Any]],
        *,
        expected: Value = ABSENT,
        ttl: int = 0,
    ) -> None:
        call = self.recorder.begin(kind, key.number, value, expected=expected, ttl=ttl)
        outcome = await self._outcome(change, refusable=kind is Kind.CAS)
        self.recorder.end(call, outcome)

    async def _outcome(
        self, change: Callable[[], Awaitable[Any]], *, refusable: bool = False
    ) -> Outcome:
        try:
            async with asyncio.timeout(self.orders.limit):
                done = await change()
        except (OutcomeUnknown, Degraded, TimeoutError):
            return Outcome.UNKNOWN
        except CacheError:
            return Outcome.FAILED
        return Outcome.REFUSED if refusable and not done else Outcome.OK

    # -- arrivals

    async def arrivals(self, rate: float, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start calls at random times, whether or not those before have ended."""
        while rate:
            await asyncio.sleep(self.chance.expovariate(rate))
            if len(self.calls) < _MOST_AT_ONCE:
                self.spawn(make())

    def spawn(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._limited(call))
        self.calls.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    async def _limited(self, call: Coroutine[Any, Any, None]) -> None:
        async with asyncio.timeout(self.orders.limit + 5):
            await call

    async def bursts(self) -> None:
        """Near reads, many in a turn of the loop. There are more readers than keys, and no two wait
        for the same: so what is near is read although the backend is silent.
        """
        weights = [1 / (at + 1) for at in range(len(self.near))]
        self.chance.shuffle(weights)
        readers = len(self.near) + 1
        await asyncio.gather(*[self._reader(weights, readers) for _ in range(readers)])

    async def _reader(self, weights: list[float], readers: int) -> None:
        rates = self.orders.rates
        while self.reading:
            await asyncio.sleep(self.chance.expovariate(rates.bursts / readers))
            for key in self.chance.choices(self.near, weights, k=rates.burst):
                if key not in self.awaited:
                    self.awaited.add(key)
                    await self.get(key)
                    self.awaited.discard(key)

    def pick(
        self, keys: list[Any], call: Callable[[Any], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        return lambda: call(self.chance.choice(keys))

    def jobs(self) -> list[Coroutine[Any, Any, None]]:
        """What goes on all the time: those kinds of calls for which there are keys."""
        rates = self.orders.rates
        kinds: list[tuple[float, list[Any], Callable[[Any], Coroutine[Any, Any, None]]]] = [
            (rates.writes, self.writable, self.write),
            (rates.bumps, self.bumped, self.bump),
            (rates.tag_bumps, self.tags, self.bump_tag),
            (rates.loads, self.loaded, self.load),
            (rates.fresh, self.near, self.get_fresh),
            (rates.strong * 0.6, self.strong, self.get_fresh),
            (rates.strong * 0.25, self.strong, self.write),
            (rates.strong * 0.15, self.strong, self.compare_and_set),
        ]
        if hasattr(self.cache, "lookup"):
            kinds.append((rates.lookups, self.near, self.lookup))
        jobs = [self.arrivals(rate, self.pick(keys, call)) for rate, keys, call in kinds if keys]
        return [self.bursts(), *jobs]

    async def hog(self, seconds: float) -> None:
        """Read what is answered at once, without a turn of the loop: nobody looks for news but the
        hits themselves.
        """
        keys = list(self.near)
        for key in keys:
            await self.get(key)
        end = monotonic_ns() + round(seconds * 1e9)
        while keys and monotonic_ns() < end:
            key = self.chance.choice(keys)
            if await self.get(key):
                keys.remove(key)
            time.sleep(0.0005)  # noqa: ASYNC251 - that is the point

    async def final(self) -> None:
        """Every key once more, as this process sees it and as the backend has it."""
        for key in self.near:
            await self.get(key, final=True)
            await self.get_fresh(key, final=True)


async def _serve(orders: Orders, lines: asyncio.StreamReader) -> None:
    apply(orders.mutant)
    with Recorder(Path(orders.history), orders.process) as recorder:
        async with opened(orders) as cache:
            worker = Worker(orders, cache, recorder, Origin(Path(orders.origin)))
            _delay_failpoints(orders, worker.chance)
            jobs: list[asyncio.Task[None]] = []
            _say("ready")
            while line := (await lines.readline()).strip():
                if line == b"go":
                    jobs = [asyncio.create_task(job) for job in worker.jobs()]
                elif line.startswith(b"hog"):
                    worker.spawn(worker.hog(float(line.split()[1])))
                elif line == b"quiet":
                    for job in jobs[1:]:
                        job.cancel()
                    await asyncio.gather(*worker.calls, return_exceptions=True)
                    if worker.failures:  # neither an answer nor an error of the cache, or a hang
                        raise BaseExceptionGroup("calls that failed", worker.failures[:5])
                    recorder.flush()
                    _say("quiet")
                elif line == b"final":
                    worker.reading = False
                    await jobs.pop(0)
                    await worker.final()
                    recorder.flush()
                    _say("done")
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)


def _delay_failpoints(orders: Orders, chance: random.Random) -> None:
    """Wait now and then at the failpoints."""

    def delaying(odds: float, longest: float) -> Callable[..., Awaitable[None]]:
        async def delay(*_: object) -> None:
            if chance.random() < odds:
                await asyncio.sleep(chance.random() * longest)

        return delay

    for name, (odds, longest) in orders.delays.items():
        FAILPOINTS[name] = delaying(odds, longest)


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def _main(path: Path) -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await _serve(Orders.read(path), lines)


def main() -> None:
    warnings.simplefilter("ignore")
    asyncio.run(_main(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
