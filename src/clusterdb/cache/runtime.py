"""What a cache and its regions share: the backend, the settings, events, and the life of it all.

A runtime lives in one event loop at a time. It opens its backend on first use, and binds again
when the loop it lived in was closed (one ``asyncio.run`` after another, a test's own loop).
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .breaker import CircuitState
from .circuit import Circuit, GuardedBackend
from .clock import Clock
from .codec import RegionCodec
from .config import BreakerConfig, CacheConfig
from .departures import Departures
from .errors import CacheClosed, CacheError, UnknownRegion, WrongLoop
from .events import (
    CircuitTurned,
    EntrySet,
    Event,
    Events,
    Invalidated,
    Loaded,
    NodeDown,
    NodeUp,
)
from .exchange import Exchange
from .hits import Hits
from .invalidation import Strategy, Waiting
from .isolation import Isolation, isolation, plain
from .loading import Loads
from .maintenance import Maintenance, StateStore
from .options import TTL, resolve_ttl
from .pace import Pace
from .portal import is_background
from .processing import Handling
from .protocols import Backend, Channel, Drop, Put, RemoteChange, Written
from .remote import remote_event
from .sampling import Sampling
from .settings import RegionSettings
from .stats import LoadCounters
from .table import Table
from .traced import TracedBackend, Tracing
from .types import RemovalCause
from .unreadable import Unreadable
from .watched_storage import with_storages
from .write_modes import Stores

if TYPE_CHECKING:
    from clusterdb.tracing import Tracer

__all__ = ["RegionState", "Runtime"]


class RegionState:
    """One region's present settings and counters, shared by every face of it."""

    __slots__ = (
        "_now",
        "_on_turn",
        "circuit",
        "closures",
        "codec",
        "hits",
        "isolation",
        "loads",
        "pace",
        "settings",
        "table",
        "unreadable",
    )

    def __init__(
        self,
        settings: RegionSettings,
        now: Callable[[], float],
        on_turn: Callable[[Circuit, CircuitState], None],
    ) -> None:
        self.closures: dict[str, object] = {}  # with automatic keys, by function name
        self.loads = LoadCounters()
        self.pace = Pace()
        self.unreadable = Unreadable(settings.name)
        self.hits = Hits(now)
        self._now = now
        self._on_turn = on_turn
        self.circuit: Circuit | None = None
        self.settings = settings
        self.isolation: Isolation | None = None
        self.codec: RegionCodec | None = None  # where the backend keeps no objects
        self.table: Table | None = None

    def apply(self, settings: RegionSettings, table: Table | None, *, encodes: bool) -> None:
        """Take over new settings, and the table that holds the region's hits, if any. ``encodes``:
        the backend keeps no objects. Then each caller gets a value of its own, unless it is shared
        by the near tier.
        """
        if self.table is not None and settings.isolation != self.settings.isolation:
            self.table.within(lambda residents: residents.convert(plain))
        self.settings = settings
        self.pace.configure(settings.loads.refresh_ahead)
        self._guard(settings.loads.breaker)
        self.table = table
        self.codec = settings.codec if encodes else None
        self.isolation = None if encodes else isolation(settings.isolation)
        self.hits.near = encodes
        self.hits.table = table if self.shares else None

    def _guard(self, breaker: BreakerConfig | None) -> None:
        """Have the circuit of these settings; one that is the same already goes on."""
        if breaker is None:
            self.circuit = None
        elif self.circuit is None or self.circuit.config != breaker:
            name = f"loads.{self.settings.name}"
            self.circuit = Circuit(name, breaker, self._now, self._on_turn)

    @property
    def shares(self) -> bool:
        """Whether callers may be given one and the same object."""
        return self.settings.isolation == "share"

    def close(self) -> None:
        """Answer no more hits."""
        self.hits.table = None

    def soon(self, key: Any) -> bool:
        """Whether ``key`` expires so soon that who brings a loader may have to refresh it: the slow
        path decides.
        """
        table = self.table
        try:
            return table is not None and table.expires_by(key, self._now() + self.pace.horizon)
        except TypeError:  # a key that is no str
            return False

    def entered(self, value: object) -> object:
        """A value on its way into the cache. Raises :class:`EncodeError`."""
        if self.codec is not None:
            return self.codec.encode(value)
        return value if self.isolation is None else self.isolation[0](value)

    def left(self, key: str, value: object) -> object:
        """A value on its way out, whatever the mode it was stored in; decoded it is by now."""
        return plain(value) if self.isolation is None else self.isolation[1](key, value)

    def store_ttl(self, ttl: TTL) -> float | None:
        """Seconds to store for a TTL as a person writes it, shortened at random by at most the
        region's jitter.
        """
        seconds = resolve_ttl(ttl, None)
        jitter = self.settings.ttl_jitter
        if seconds is None or not jitter:
            return seconds
        return seconds * (1 - jitter * random.random())


class Runtime:
    """The shared part of one cache."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        clock: Clock,
        breaker: BreakerConfig | None = None,
        stores: Stores | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self._circuit: Circuit | None = None
        self.origin = f"{socket.gethostname()}:{os.getpid()}"
        self.maintenance = Maintenance(name, self.origin, StateStore(backend), clock)
        self.sampling = Sampling(clock.now, self.publish)
        if breaker is not None:
            self._circuit = Circuit("backend", breaker, clock.now, self._turned)
            backend = GuardedBackend(backend, self._circuit)
        self._unstored = backend = self.sampling.timing(backend)
        self.tracing = Tracing(name)
        self.store(stores)
        self.events = Events(self._observe, self._heard_by_others)
        self.waiting = Waiting(self._carry_out)
        self.exchange = Exchange(
            name, backend, clock, self.events, lambda: self.states, self._forget
        )
        self.handlings: list[Handling] = []
        self.states: dict[str, RegionState] = {}
        self.started: float | None = None
        self.config = CacheConfig()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.home: asyncio.AbstractEventLoop | None = None
        """The loop in which :meth:`ready` has nothing to do: from its first end to the close."""
        self._opening: asyncio.Task[None] | None = None
        self._opened = self.closed = False
        self._closing: asyncio.Task[None] | None = None
        self._loads: Loads | None = None
        self.departures = Departures(self.publish)
        _RUNTIMES.add(self)

    def store(self, stores: Stores | None) -> None:
        """Have the storages that modes name; before the first use."""
        plain, told = self._unstored, self.sampling.stored
        self.stored = with_storages(plain, self.clock, stores, self.tracing, told)
        self.backend = self._untraced = self.stored or plain

    # -- life

    @property
    def used(self) -> bool:
        """Whether there was a first use."""
        return self._loop is not None

    @property
    def loads(self) -> Loads:
        """The loads of the loop we live in. Raises :class:`CacheClosed`."""
        self.check_open()
        if self._loads is None:
            self._loads = Loads(
                self.name, self.backend, self.clock, self.tracing, self._loaded, self._stored
            )
        return self._loads

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop we live in; ``None`` before the first use and after it was closed."""
        return None if self._loop is None or self._loop.is_closed() else self._loop

    @property
    def immediate(self) -> bool:
        """Whether the backend is open, and its calls may come from a thread without a loop."""
        waits = self.waiting or self.waiting.strategy != "immediate"  # in the loop, in order
        return self._opened and self.loop is not None and self.backend.inline and not waits

    @property
    def encodes(self) -> bool:
        """Whether the backend keeps bytes, and not objects."""
        return "objects" not in self.backend.capabilities

    def encodes_in(self, settings: RegionSettings) -> bool:
        """Whether a region's values become bytes: for the backend, or for a storage."""
        return self.encodes or settings.mode is not None

    @property
    def running(self) -> bool:
        """Whether the cache was used and not closed."""
        return self.used and not self.closed

    def check_open(self) -> None:
        """Raise :class:`CacheClosed` where the cache was closed."""
        if self.closed:
            raise CacheClosed(self.name)

    async def ready(self) -> None:
        """Open the backend if that was not done yet in this loop.

        Raises :class:`CacheClosed`, :class:`BackendUnavailable`, or :class:`WrongLoop` while
        another loop that uses this cache is still running.
        """
        self.check_open()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self.immediate:  # the sync door, in a thread without a loop
                return
            raise
        if self._loop is not loop:
            _refuse_other_loop(self, loop)
            self._loop, self._loads, self._opening, self._opened = loop, None, None, False
            self.home = None
        if self._opened:
            self.home = loop
            return
        if self._opening is None:
            self._opening = loop.create_task(self._open())
        opening = self._opening
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            if opening.cancelled():
                self.check_open()
            raise

    async def _open(self) -> None:
        try:
            await self.backend.open()
            self._opened = True
            self.waiting.start()
            await self.exchange.start(self.origin)
            for handling in self.handlings:
                handling.start()
            self.sampling.start()
            self.maintenance.start()
        finally:
            self._opening = None
        if self.started is None:
            self.started = self.clock.now()

    async def aclose(self) -> None:
        """End loads, the backend and subscriptions. Idempotent: a later call waits for the first,
        and a cancelled one is finished all the same. Raises :class:`WrongLoop`.
        """
        loop = asyncio.get_running_loop()
        if self._closing is None:
            _refuse_other_loop(self, loop)
            self.closed, self.home = True, None
            for state in self.states.values():
                state.close()
            self._closing = loop.create_task(self._close())
        if self._closing.get_loop() is loop:
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        if self._loads is not None:
            await self._loads.aclose()
        await self.maintenance.aclose()
        await self.sampling.aclose()
        await self.waiting.aclose()
        await self.exchange.disconnect()
        try:
            await self.backend.aclose()
        finally:
            self.events.end()
            await asyncio.gather(*[handling.aclose() for handling in self.handlings])

    def forget(self, region: str, key: str) -> None:
        """Something happened to a key: see :meth:`Loads.forget`."""
        if self._loads is not None:
            self._loads.forget(region, key)

    def forget_all(self) -> None:
        """Something happened to many keys: see :meth:`Loads.forget_all`."""
        if self._loads is not None:
            self._loads.forget_all()

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        """Around a fork: in the child the parent's loop and its tasks are not ours."""
        self.backend.fork(moment)
        if moment == "child":
            self._loop = self.home = self._opening = self._loads = self._closing = None
            self._opened = False
            for handling in self.handlings:
                handling.forked()
            self.origin = f"{socket.gethostname()}:{os.getpid()}"
            self.exchange.forked(self.origin)
            self.maintenance.forked(self.origin)
            self.sampling.forked()
            self.waiting.forked()

    # -- regions

    def configure(self, regions: Sequence[RegionSettings]) -> None:
        """Make or change regions; none is dropped. Raises :class:`CacheClosed`."""
        self.check_open()
        self.backend.configure({settings.name: settings for settings in regions})
        for settings in regions:
            state = self.states.get(settings.name)
            if state is None:
                state = RegionState(settings, self.clock.now, self._turned)
                self.states[settings.name] = state
            table, encodes = self.backend.table(settings.name), self.encodes_in(settings)
            state.apply(settings, table, encodes=encodes)

    def state(self, name: str) -> RegionState:
        """The state of a region, or :class:`UnknownRegion`."""
        try:
            return self.states[name]
        except KeyError:
            raise UnknownRegion(name, list(self.states)) from None

    @property
    def circuits(self) -> list[Circuit]:
        """All circuit breakers: the backend's, and those of the regions' loaders."""
        found = [self._circuit, *[state.circuit for state in self.states.values()]]
        return [circuit for circuit in found if circuit is not None]

    # -- events

    def trace(self, tracer: Tracer | None) -> None:
        """Make spans by ``tracer`` from now on; ``None``: none."""
        if tracer is self.tracing.tracer:
            return
        self.tracing.tracer, self.backend = tracer, self._untraced
        if tracer and self.stored is None and "immediate" not in self.backend.capabilities:
            self.backend = TracedBackend(self.backend, self.tracing)
        if self._loads is not None:
            self._loads.use(self.backend)

    def _turned(self, circuit: Circuit, state: CircuitState) -> None:
        name, retry_in = circuit.name, circuit.retry_in
        self.publish(CircuitTurned, circuit=name, state=state, retry_in=retry_in)

    def publish(self, make: Callable[..., Event], **fields: object) -> None:
        """Publish an event, if anybody listens."""
        if self.events.active:
            self.events.publish(make(time=self.clock.wall(), origin=self.origin, **fields))

    def handle(self, handling: Handling) -> None:
        """Let a handler work from now on, or from the start of the cache on."""
        self.handlings.append(handling)
        loop = self.loop
        if self.closed:
            handling.stop()
        elif self._opened and loop is not None:
            loop.call_soon_threadsafe(handling.start)

    def _observe(self) -> None:
        self.backend.observe(self.departures.removed if self.events.active else None)
        self.backend.follow(self._followed if self.events.heard else None)
        self.exchange.listen()

    # -- invalidations that wait

    def wait(self, strategy: Strategy, delay: float, limit: int) -> None:
        """See :meth:`Waiting.configure`. A backend that never waits has nothing to gain by it."""
        never = "immediate" in self.backend.capabilities
        self.waiting.configure("immediate" if never else strategy, delay, limit)

    async def _carry_out(self, region: str, keys: Sequence[str]) -> None:
        """Remove keys whose removal had waited."""
        drops = [Drop(key, RemovalCause.INVALIDATED) for key in keys]
        for drop, outcome in zip(drops, await self.backend.write(region, drops), strict=True):
            if isinstance(outcome, CacheError):
                raise outcome
            self.forget(region, drop.key)
            if self.events.active:
                version = self.exchange.version()
                self.publish(Invalidated, region=region, key=drop.key, version=version)

    # -- other processes

    async def reconnect(
        self, channel: Channel | None, kinds: Iterable[type[Event]], versioned: bool
    ) -> None:
        """Leave the present channel for another, or for none."""
        await self.exchange.disconnect()
        if channel is not None:
            self.connect(channel, kinds, versioned)
            if self._opened:
                await self.exchange.start(self.origin)

    def connect(self, channel: Channel, kinds: Iterable[type[Event]], versioned: bool) -> None:
        """See :meth:`Exchange.connect`."""
        self.exchange.connect(channel, kinds, versioned, self.origin)

    async def _heard_by_others(self) -> None:
        if self.exchange.connected and not self.closed:
            await self.ready()
            await self.exchange.settled()

    def _forget(self, region: str | None, key: str) -> None:
        if region is None:
            self.forget_all()
        else:
            self.forget(region, key)

    def _followed(self, changes: Sequence[RemoteChange]) -> None:
        """What other processes did, or servers, told as what we do is."""
        for change in changes:
            event = remote_event(change, self.origin)
            if event is None:
                continue
            if isinstance(event, NodeUp | NodeDown):
                self.events.publish(event)
            elif not self.exchange.connected:  # else it comes over the channel
                self.events.tell(event)

    def _stored(self, region: str, put: Put, written: Written) -> None:
        """A loaded value was stored. Nothing has changed at its origin, so that copies of processes
        that keep their own are as good: who has to load a key must not make all others load it.
        """
        if not self.events.active:
            return
        event = EntrySet(
            time=self.clock.wall(),
            origin=self.origin,
            region=region,
            key=put.key,
            version=written.version,
            tags=put.tags,
        )
        (self.events.tell if self.exchange.applies else self.events.publish)(event)

    def _loaded(self, region: str, keys: Sequence[str], seconds: float, outcome: str) -> None:
        self.sampling.loaded(region, seconds, outcome)
        for key in keys:
            self.publish(Loaded, region=region, key=key, seconds=seconds, outcome=outcome)


def _refuse_other_loop(runtime: Runtime, loop: asyncio.AbstractEventLoop) -> None:
    lives_in = runtime.loop
    if lives_in is not None and lives_in is not loop:
        raise WrongLoop(_wrong_loop(runtime.name, lives_in))


def _wrong_loop(name: str, lives_in: asyncio.AbstractEventLoop) -> str:
    """Why a cache can't be used in a loop, while it lives in another."""
    if is_background(lives_in):
        return (
            f"cache {name!r} was first used without a loop (.sync, or a plain @cached "
            f"function) and lives in a background thread since: go on that way, close it "
            f"before asyncio starts (.sync.close()), or give asyncio a Cache of its own"
        )
    return (
        f"cache {name!r} lives in another event loop, which is still open; "
        f"use and close it there, or give each loop a Cache of its own"
    )


_RUNTIMES: weakref.WeakSet[Runtime] = weakref.WeakSet()


class _Forks:
    """Around a fork: the runtimes of this process, one fork at a time."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._held: list[Runtime] = []

    def before(self) -> None:
        self._one.acquire()
        for runtime in list(_RUNTIMES):
            runtime.fork("before")
            self._held.append(runtime)

    def parent(self) -> None:
        self._after("parent")
        self._one.release()

    def child(self) -> None:
        self._one = threading.Lock()
        self._after("child")

    def _after(self, moment: Literal["parent", "child"]) -> None:
        held, self._held = self._held, []
        for runtime in held:
            runtime.fork(moment)


if hasattr(os, "register_at_fork"):
    _FORKS = _Forks()
    os.register_at_fork(
        before=_FORKS.before, after_in_parent=_FORKS.parent, after_in_child=_FORKS.child
    )
