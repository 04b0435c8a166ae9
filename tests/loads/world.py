"""One seeded scenario: a cache on a slow twin backend, its origin, and the actors' vocabulary.

Actors read, load and write through a :class:`World`, which draws their delays and records what
they did. :func:`play` runs a scenario with one seed and returns what the checkers found; the same
seed gives the same run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from clusterdb.cache import Cache, CacheClosed, CacheConfig, CacheRegion, LoadConfig, LoadContext
from clusterdb.cache.table import Table

from .backends import Twin
from .history import History, Origin, OriginDown, Span, Value, needless_calls, stale_answers
from .schedule import Hang, LoopClock, SeededLoop, run_seeded

__all__ = ["KEYS", "Load", "Scenario", "World", "play"]

CLAIMED: ContextVar[int] = ContextVar("claimed", default=-1)
"""When the claim was taken under which a loader runs."""

KEYS = ("a", "b", "c")
"""All keys of all scenarios."""

UNLIMITED = LoadConfig(hard_deadline=None)
"""Loads that hang really hang."""

_PAUSES = (0.0, 0.0, 0.001, 0.003, 0.01)
_FAILPOINTS = (None, None, 0.0, 0.0, 0.002)


@dataclass(frozen=True, kw_only=True)
class Load:
    """How an actor's loader behaves."""

    tags: tuple[str, ...] = ()
    learns: tuple[str, ...] = ()
    learns_parity: bool = False
    fails: float = 0.0
    skips: float = 0.0
    stubborn: bool = False
    takes: float | None = None
    ttl: float | None = None
    number: bool = False


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """``play`` sets the actors going. What is left is how it is judged."""

    name: str
    play: Callable[[World], Awaitable[None]]
    loads: LoadConfig = UNLIMITED
    grace: float = 0.0
    calls_a_load: int = 1
    counts_calls: bool = True
    config: CacheConfig = field(init=False)

    def __post_init__(self) -> None:
        regions = (
            CacheRegion("default", grace=self.grace, loads=self.loads),
            CacheRegion("other", grace=self.grace, loads=self.loads),
        )
        object.__setattr__(self, "config", CacheConfig(regions=regions))


class World:
    """What the actors of one run share."""

    def __init__(self, scenario: Scenario, loop: SeededLoop, seed: int) -> None:
        self.scenario = scenario
        self.loop = loop
        self.random = random.Random(f"actors {seed}")
        random.seed(f"draws {seed}")  # of the code under test
        self.origin = Origin()
        self.history = History()
        self.found: list[str] = []
        self._writing = asyncio.Lock()
        self._failpoints = _FAILPOINTS if seed % 3 else (None,)  # as in memory, every third time
        self.backend = Twin(LoopClock(loop), self._failpoint, near=seed % 2 == 0)
        self.cache = Cache(scenario.config, clock=LoopClock(loop), backend=self.backend)

    # -- time

    async def _failpoint(self, point: str) -> None:
        if point == "after-claim":
            CLAIMED.set(self.history.tick())
        delay = self.random.choice(self._failpoints)
        if delay is not None:
            await asyncio.sleep(delay)

    async def pause(self) -> None:
        """Let others go first, for a while that is drawn."""
        await asyncio.sleep(self.random.choice(_PAUSES))

    def soon(self, actor: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start an actor after a pause."""
        task = asyncio.create_task(self._later(actor))
        task.add_done_callback(lambda _: actor.close())
        return task

    async def _later(self, actor: Coroutine[Any, Any, Any]) -> Any:
        await self.pause()
        return await actor

    async def cancelled(self, actor: Coroutine[Any, Any, Any]) -> None:
        """Start an actor and cancel it at some moment."""
        task = self.soon(actor)
        await self.pause()
        await self.pause()
        task.cancel()
        await asyncio.wait({task})

    # -- reading

    async def get(self, key: str) -> None:
        """Read what is cached."""
        await self._read("get", key, partial(self.cache.get, key))

    async def load(self, key: str, load: Load | None = None) -> None:
        """Get or load one key."""
        load = load or Load()
        call = partial(self.cache.get_or_load, key, self.loader(load), ttl=load.ttl, tags=load.tags)
        await self._read("load", key, call)

    async def load_many(self, keys: Sequence[str], load: Load | None = None) -> None:
        """Get or load several keys with one call."""
        load = load or Load()
        spans = [self.history.begin("read", "load_many", key) for key in keys]
        try:
            values = await self.cache.get_or_load_many(
                keys, self.many_loader(load), ttl=load.ttl, tags=load.tags
            )
        except (OriginDown, CacheClosed, asyncio.CancelledError) as error:
            for span in spans:
                self._failed(span, error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        for span in spans:
            self.history.end(span, "ok", values[span.keys[0]].version)

    async def _read(self, what: str, key: str, call: Callable[[], Awaitable[Any]]) -> None:
        span = self.history.begin("read", what, key)
        try:
            value = await call()
        except (OriginDown, CacheClosed) as error:
            self._failed(span, error)
        except asyncio.CancelledError as error:
            self._failed(span, error)
            raise
        else:
            version = value if value is None or isinstance(value, int) else value.version
            self.history.end(span, "ok", version)

    def _failed(self, span: Span, error: BaseException) -> None:
        if isinstance(error, OriginDown):
            self.history.end(span, "failed", error.version)
        else:
            self.history.end(span, "closed" if isinstance(error, CacheClosed) else "cancelled")

    # -- loading

    def loader(self, load: Load) -> Callable[[LoadContext], Awaitable[Any]]:
        """A loader of one key."""

        async def fetch(context: LoadContext) -> Any:
            value = (await self._fetch(context, load))[context.key]
            return value.version if load.number else value

        return fetch

    def many_loader(self, load: Load) -> Callable[..., Awaitable[Any]]:
        """A loader of many keys."""

        async def fetch(keys: list[str], context: LoadContext) -> Any:
            assert tuple(keys) == context.keys
            return await self._fetch(context, load)

        return fetch

    async def _fetch(self, context: LoadContext, load: Load) -> dict[str, Value]:
        span = self.history.begin("call", "loader", *context.keys)
        span.claimed = CLAIMED.get()
        outcome = "failed"
        try:
            values = await self._travel(context, load, span)
            if span.outcome == "running":
                outcome = "skipped" if context.skipped else "ok"
            return values
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            self.history.end(span, outcome)

    async def _travel(self, context: LoadContext, load: Load, span: Span) -> dict[str, Value]:
        """To the origin and back."""
        draw = self.random.random
        early = draw() < 0.5
        if early:
            context.add_tags(*load.learns)
        await self.pause()
        values = {key: self.origin.read(key) for key in context.keys}
        if load.learns_parity:
            context.add_tags(f"p{values[context.key].version % 2}")
        await self._back(load, span)
        if not early:
            context.add_tags(*load.learns)
        if draw() < load.fails:
            raise OriginDown(min([value.version for value in values.values()]))
        if draw() < load.skips:
            context.skip()
        return values

    async def _back(self, load: Load, span: Span) -> None:
        try:
            await (self.pause() if load.takes is None else asyncio.sleep(load.takes))
        except asyncio.CancelledError:
            if not load.stubborn:
                raise
            span.outcome = "ignores that it was cancelled"
            await self.pause()

    # -- writing

    async def write(self, what: str, keys: Iterable[str], call: Callable[[int], Any]) -> None:
        """Change ``keys`` in the origin, then in the cache by ``call``, given the new version.

        One writer at a time: between two of them no order is promised.
        """
        keys = tuple(keys)
        async with self._writing:
            version = self.origin.bump(*keys)
            await self.pause()
            span = self.history.begin("write", what, *keys)
            answer = await call(version)
            self.history.end(span, "ok", answer if what == "increment" else version)

    async def touch(self, key: str) -> None:
        """Give an entry a new expiry, which changes nothing of its value."""
        span = self.history.begin("write", "touch", key)
        await self.cache.touch(key, 3600)
        self.history.end(span, "ok")

    # -- the end

    async def run(self) -> None:
        """The whole life of the scenario."""
        await self.scenario.play(self)
        await asyncio.sleep(1.0)  # what nobody waits for comes to its end
        self._check_leftovers()
        await self.cache.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        self.found += [f"task left: {task.get_name()}" for task in others]

    def _check_leftovers(self) -> None:
        loads: Any = self.cache._runtime._loads
        if loads is not None:
            self.found += [f"flight left: {key}" for key in loads._flights]
            self.found += [f"task left: {task}" for task in loads._tasks._running]
        uses: Counter[str] = Counter()
        for table in self.backend.inner._tables.values():
            self.found += [f"claim left: {key}" for key in table._claims._claims]
            uses += _uses(table)
        counted = self.backend.inner._tags.uses()
        if counted != uses:
            self.found.append(f"tags counted {counted}, used {uses}")

    def judge(self) -> list[str]:
        """What all checkers found."""
        self.found += self.loop.trouble
        self.found += stale_answers(self.history)
        if self.scenario.counts_calls:
            self.found += needless_calls(self.history, self.scenario.calls_a_load)
        return self.found


def _uses(table: Table) -> Counter[str]:
    entries = table._entries.values()
    return Counter([state.name for entry in entries for state in entry.tags if state.live])


def play(scenario: Scenario, seed: int) -> list[str]:
    """Run ``scenario`` with ``seed``; what is wrong with it."""
    loop = SeededLoop(seed)
    world = World(scenario, loop, seed)
    try:
        run_seeded(world.run(), loop)
    except Hang as error:
        world.found.append(f"hang: {error}")
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - all is of interest
        world.found.append(f"error: {error!r}")
    finally:
        world.cache._runtime._loop = None  # a run that failed left it open
    return world.judge()
