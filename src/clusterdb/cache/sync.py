"""The sync door: the operations of a cache without ``await``, for scripts, threads and frameworks.

``cache.sync`` and ``region.sync`` have the names and arguments of their async faces. Each method is
made from the async one, so the two can't drift apart. A hit in process is answered in the caller's
thread. So is every operation of a backend that never waits, as the memory backend; the others run
in the loop the cache lives in, or else in one background thread.

Inside a running event loop an operation that is no hit raises :class:`WrongLoop`, as it would
block the loop.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from datetime import timedelta
from functools import wraps
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    overload,
)

from msgspec import UNSET, UnsetType

from .atomic import AtomicChanges
from .backup import Backups
from .batch import BatchOperation
from .codec import Codec
from .config import CacheConfig, CacheRegion
from .errors import WrongLoop
from .events import INVALIDATIONS, Event, EventGap, Overflow, Subscription
from .hits import Getter
from .keys import check_key, check_keys
from .loading import Loader
from .manager import Cache
from .options import TTL, GetOptions, Pattern, PatternOptions
from .portal import Caller, background_loop, refuse_in_loop, run_in
from .processing import Handling
from .regions import Region
from .runtime import Runtime
from .types import MISSING
from .warming import Warmed
from .weigh import Weigher

if TYPE_CHECKING:
    from .decorators import Caching, CachingMany

__all__ = [
    "SyncAtomic",
    "SyncBackups",
    "SyncBatch",
    "SyncCache",
    "SyncRegion",
    "SyncSubscription",
    "drive",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
U = TypeVar("U")
D = TypeVar("D")
E = TypeVar("E", bound=Event)

_SCAN_AT_ONCE: Final = 1000


def drive(
    runtime: Runtime,
    work: Coroutine[Any, Any, R],
    *,
    may_wait: bool = False,
    caller: Caller | None = None,
) -> R:
    """The result of ``work``: here and now where nothing waits, else from the cache's loop."""
    try:
        refuse_in_loop()
        here = runtime.immediate and not may_wait
        loop = None if here else runtime.loop or background_loop(runtime)
    except BaseException:
        work.close()
        raise
    if loop is not None:
        return run_in(loop, work, caller)
    try:
        while work.send(None) is None:  # it lets others run: here there are none
            pass
    except StopIteration as stop:
        result: R = stop.value
        return result
    work.close()
    raise WrongLoop(f"backend {runtime.backend.kind!r} waited, and said that it never does")


def _blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], *, may_wait: bool = False
) -> Callable[Concatenate[Any, P], R]:
    """The method of a sync face that does what an async one does."""

    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return drive(self.runtime, method(self.face, *args, **kwargs), may_wait=may_wait)

    return wraps(method)(call)


def _with_text_of(method: Callable[..., Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a method the text of an async one."""

    def dress(function: Callable[P, R]) -> Callable[P, R]:
        function.__doc__ = method.__doc__
        return function

    return dress


class SyncBatch(BatchOperation):
    """A batch bound to a region. Leaving ``with`` without an exception executes it."""

    def __init__(self, execute: Callable[[BatchOperation], list[bool]]) -> None:
        super().__init__()
        self._execute = execute

    def execute(self) -> list[bool]:
        """Carry out what was added since the last time; see :meth:`Batch.execute`."""
        return self._execute(self.take())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.execute()


class SyncAtomic(AtomicChanges):
    """``region.sync.atomic().check("counter", 10).set("counter", 11).execute()``."""

    def execute(self) -> bool:
        """Whether all checks held and all changes were made; if not, none was."""
        return drive(self.access.runtime, self.commit())


class SyncSubscription(Generic[E]):
    """Events as an iterator that blocks, used with ``with``; it ends when the cache closes."""

    def __init__(self, runtime: Runtime, subscription: Subscription[E]) -> None:
        self._runtime = runtime
        self._subscription = subscription

    def __enter__(self) -> Self:
        drive(self._runtime, self._enter(), may_wait=True)
        return self

    async def _enter(self) -> None:
        await self._runtime.ready()
        await self._subscription.__aenter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        leave = self._subscription.__aexit__(kind, error, trace)
        drive(self._runtime, leave, may_wait=True)

    def __iter__(self) -> Iterator[E | EventGap]:
        return self

    def __next__(self) -> E | EventGap:
        event = drive(self._runtime, self._next(), may_wait=True)
        if event is None:
            raise StopIteration
        return event

    async def _next(self) -> E | EventGap | None:
        return await anext(self._subscription, None)


class SyncRegion(Generic[T]):
    """The operations on one key space, without ``await``."""

    def __init__(self, face: Region[T]) -> None:
        self.face = face
        self.runtime = face.access.runtime
        self._hits = face.hits
        if not face.typed:
            # Before the method of the class: a hit without a Python frame of its own.
            slow: Any = self.get
            vars(self)["get"] = Getter(face.access.state.hits, self.runtime.clock.now, slow).get

    @property
    def name(self) -> str:
        """The region's name."""
        return self.face.name

    @overload
    def get(self, key: str, *, options: GetOptions | None = None) -> T | None: ...
    @overload
    def get(self, key: str, default: D, *, options: GetOptions | None = None) -> T | D: ...
    @overload
    def get(self, key: str, *, type: type[U], options: GetOptions | None = None) -> U | None: ...
    @overload
    def get(
        self, key: str, default: D, *, type: type[U], options: GetOptions | None = None
    ) -> U | D: ...
    @_with_text_of(Region.get)
    def get(
        self, key: str, default: Any = None, type: Any = None, options: GetOptions | None = None
    ) -> Any:
        if options is None:
            value = self._hits.get(key)  # a typed region's hit, or one with `type=`
            if value is not MISSING:
                return self.face.given(key, value, type)
        if self.face.access.encodes:
            value = self.face.hit(key, type, options)
            if value is not MISSING:
                return value
        work = self.face.get(key, default, type=type, options=options)
        return drive(self.runtime, work)

    lookup = _blocking(Region[T].lookup)
    get_many = _blocking(Region[T].get_many)
    exists = _blocking(Region[T].exists)
    set = _blocking(Region[T].set)
    set_many = _blocking(Region[T].set_many)
    write_through = _blocking(Region[T].write_through)
    touch = _blocking(Region[T].touch)
    increment = _blocking(Region[T].increment)
    delete = _blocking(Region[T].delete)
    delete_many = _blocking(Region[T].delete_many)
    clear = _blocking(Region[T].clear)
    execute_batch = _blocking(Region[T].execute_batch)
    invalidate = _blocking(Region[T].invalidate)
    invalidate_many = _blocking(Region[T].invalidate_many)
    invalidate_matching = _blocking(Region[T].invalidate_matching, may_wait=True)
    invalidate_tag = _blocking(Region[T].invalidate_tag)

    @_with_text_of(Region.warm)
    def warm(
        self,
        keys: Iterable[str] | None = None,
        *,
        loader: Callable[..., Any] | None = None,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
        from_backup: str | None = None,
        rate: float | None = None,
        concurrency: int = 4,
        progress: Callable[[Warmed], None] | None = None,
    ) -> Warmed:
        work = self.face.warm(
            keys if keys is None else list(keys),  # they may come from this door, in this thread
            loader=loader,
            type=type,
            ttl=ttl,
            tags=tags,
            from_backup=from_backup,
            rate=rate,
            concurrency=concurrency,
            progress=progress,
        )
        return drive(self.runtime, work, may_wait=True)

    @_with_text_of(Region.get_or_load_many)
    def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[..., Any],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> dict[str, Any]:
        caller = Caller()
        wanted = check_keys(keys)
        loading = Loader(loader, many=True)
        work = self.face.access.load(wanted, loading, ttl, tags, caller, type)
        found = drive(self.runtime, work, may_wait=True, caller=caller)
        return {key: self.face.given(key, found[key], type) for key in wanted if key in found}

    @overload
    def get_or_load(
        self,
        key: str,
        loader: Callable[..., Awaitable[U]],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> U: ...
    @overload
    def get_or_load(
        self,
        key: str,
        loader: Callable[..., U],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> U: ...
    @_with_text_of(Region.get_or_load)
    def get_or_load(
        self,
        key: str,
        loader: Callable[..., Any],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> Any:
        value = self.face.at_once(key, type)
        if value is not MISSING:
            return value
        caller, key = Caller(), check_key(key)
        loading = Loader(loader, many=False)
        work = self.face.access.load([key], loading, ttl, tags, caller, type)
        found = drive(self.runtime, work, may_wait=True, caller=caller)
        return self.face.given(key, found[key], type)

    @_with_text_of(Region.scan)
    def scan(
        self,
        pattern: str | Pattern = "*",
        *,
        batch_size: int | None = None,
        timeout: float | str | timedelta | None = None,
        options: PatternOptions | None = None,
    ) -> Iterator[str]:
        keys = self.face.scan(pattern, batch_size=batch_size, timeout=timeout, options=options)
        return self._pulled(keys)

    def _pulled(self, keys: AsyncIterator[str]) -> Iterator[str]:
        while batch := drive(self.runtime, _some(keys), may_wait=True):
            yield from batch

    @property
    def cached(self) -> Caching:
        """See :attr:`Region.cached`."""
        return self.face.cached

    @property
    def cached_many(self) -> CachingMany:
        """See :attr:`Region.cached_many`."""
        return self.face.cached_many

    @_with_text_of(Region.batch)
    def batch(self) -> SyncBatch:
        return SyncBatch(self.execute_batch)

    @_with_text_of(Region.atomic)
    def atomic(self) -> SyncAtomic:
        return SyncAtomic(self.face.access)


async def _some(keys: AsyncIterator[str]) -> list[str]:
    found: list[str] = []
    async for key in keys:
        found.append(key)
        if len(found) == _SCAN_AT_ONCE:
            break
    return found


class SyncBackups:
    """The backups of a cache without ``await``: ``cache.sync.backups``."""

    def __init__(self, runtime: Runtime, face: Backups) -> None:
        self.runtime, self.face = runtime, face

    create = _blocking(Backups.create, may_wait=True)
    list = _blocking(Backups.list, may_wait=True)
    verify = _blocking(Backups.verify, may_wait=True)
    restore = _blocking(Backups.restore, may_wait=True)
    prune = _blocking(Backups.prune, may_wait=True)


class SyncCache(SyncRegion[Any]):
    """A cache without ``await``: ``with Cache().sync as cache:``."""

    def __init__(self, face: Cache) -> None:
        super().__init__(face)
        self.face: Cache = face

    start = _blocking(Cache.start, may_wait=True)
    clear = _blocking(Cache.clear)
    flush_invalidations = _blocking(Cache.flush_invalidations)
    configure = _blocking(Cache.configure, may_wait=True)
    configure_regions = _blocking(Cache.configure_regions)
    configure_coherence = _blocking(Cache.configure_coherence)
    configure_invalidation = _blocking(Cache.configure_invalidation, may_wait=True)
    configure_maintenance = _blocking(Cache.configure_maintenance, may_wait=True)
    get_maintenance = _blocking(Cache.get_maintenance, may_wait=True)
    get_balance = _blocking(Cache.get_balance, may_wait=True)
    run_maintenance = _blocking(Cache.run_maintenance, may_wait=True)
    pause_maintenance = _blocking(Cache.pause_maintenance, may_wait=True)
    resume_maintenance = _blocking(Cache.resume_maintenance, may_wait=True)
    configure_backup = _blocking(Cache.configure_backup)
    configure_monitoring = _blocking(Cache.configure_monitoring)
    configure_tracing = _blocking(Cache.configure_tracing)
    get_statistics = _blocking(Cache.get_statistics)
    advise = _blocking(Cache.advise)
    record = _blocking(Cache.record)
    get_metrics = _blocking(Cache.get_metrics)
    get_health = _blocking(Cache.get_health)

    def close(self) -> None:
        """Close the cache; see :meth:`Cache.aclose`."""
        if not self.runtime.closed:
            drive(self.runtime, self.face.aclose(), may_wait=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def config(self) -> CacheConfig:
        """The configuration in force."""
        return self.face.config

    @property
    def regions(self) -> tuple[str, ...]:
        """The names of all regions."""
        return self.face.regions

    @property
    def backups(self) -> SyncBackups:
        """The backups of this cache: see :attr:`Cache.backups`."""
        return SyncBackups(self.runtime, self.face.backups)

    @overload
    def region(self, name: str) -> SyncRegion[Any]: ...
    @overload
    def region(self, name: str, *, type: type[U]) -> SyncRegion[U]: ...
    @_with_text_of(Cache.region)
    def region(self, name: str, *, type: type[Any] | None = None) -> SyncRegion[Any]:
        return SyncRegion(Region(self.runtime, name, type))

    @overload
    def create_region(
        self, region: CacheRegion, *, weigher: Weigher | None = None, codec: Codec | None = None
    ) -> SyncRegion[Any]: ...
    @overload
    def create_region(
        self, region: CacheRegion, *, type: type[U], weigher: Weigher | None = None
    ) -> SyncRegion[U]: ...
    @_with_text_of(Cache.create_region)
    def create_region(
        self,
        region: CacheRegion,
        *,
        type: type[Any] | None = None,
        weigher: Weigher | None = None,
        codec: Codec | None = None,
    ) -> SyncRegion[Any]:
        drive(self.runtime, self.face.create_region(region, weigher=weigher, codec=codec))
        return SyncRegion(Region(self.runtime, region.name, type))

    @_with_text_of(Cache.get_events)
    def get_events(self) -> SyncSubscription[Event]:
        return self.subscribe()

    @_with_text_of(Cache.subscribe)
    def subscribe(
        self,
        *kinds: type[Event],
        region: str | None = None,
        pattern: str | None = None,
        capacity: int = 1024,
        overflow: Overflow = "drop_newest",
    ) -> SyncSubscription[Event]:
        events = self.face.subscribe(
            *kinds, region=region, pattern=pattern, capacity=capacity, overflow=overflow
        )
        return SyncSubscription(self.runtime, events)

    @_with_text_of(Cache.subscribe_invalidation)
    def subscribe_invalidation(
        self, *, capacity: int = 1024, overflow: Overflow = "drop_newest"
    ) -> SyncSubscription[Event]:
        return self.subscribe(*INVALIDATIONS, capacity=capacity, overflow=overflow)

    @_with_text_of(Cache.on)
    def on(
        self,
        *kinds: type[Event],
        handler: Callable[[Event], Any],
        region: str | None = None,
        pattern: str | None = None,
        capacity: int = 1024,
        overflow: Overflow = "drop_newest",
        timeout: float | str | timedelta = 10.0,
    ) -> Handling:
        return self.face.on(
            *kinds,
            handler=handler,
            region=region,
            pattern=pattern,
            capacity=capacity,
            overflow=overflow,
            timeout=timeout,
        )
