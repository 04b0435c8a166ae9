"""The Cache Manager: the cache users hold.

A ``Cache`` is the region ``default`` with all its operations, the other regions, tags, settings
and events. Building one does no I/O; ``async with``, or the first call, starts it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload, runtime_checkable

from msgspec import structs

from clusterdb.monitoring import Health, Metric, MetricsConfig
from clusterdb.tracing import TracingConfig

from .advice import Advice
from .backing import BackedUp
from .callers import caller
from .checking import collect_health
from .clock import Clock, SystemClock
from .codec import Codec
from .config import (
    BackupConfig,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    InvalidationConfig,
    MaintenanceConfig,
    MonitoringConfig,
)
from .config.shapes import nearest
from .errors import ConfigError, InactiveSetting, InvalidArgument
from .events import Event, Subscription
from .events.types import event_kinds
from .factory import (
    breaker_of,
    lease_of,
    make_backend,
    make_channel,
    make_plans,
    make_stores,
    make_tracer,
    traced_as,
)
from .invalidation import Strategy
from .keys import shown
from .listening import Listening
from .maintaining import Maintaining
from .measures import METRICS
from .observing import collect_metrics, collect_statistics, take_sample
from .patterns import give_advice, record_requests
from .protocols import Backend
from .regions import Region
from .rows import Storage
from .runtime import Runtime
from .settings import DEFAULT_REGION, RegionSettings, inactive_settings, resolve_region
from .stats import CacheStats
from .warming import keep_hot_keys
from .weigh import Weigher

if TYPE_CHECKING:
    from .sync import SyncCache

__all__ = ["Cache", "CacheManager", "CacheMonitor"]

T = TypeVar("T")

_FIXED = ("name", "backend", "partitioning")


@runtime_checkable
class CacheManager(Protocol):
    """The operations every cache has, for code that takes any of them."""

    async def set(self, key: str, value: Any) -> bool:
        """Store a value."""
        ...

    async def get(self, key: str) -> Any:
        """Return a value or ``None``."""
        ...

    async def delete(self, key: str) -> bool:
        """Delete an entry."""
        ...

    async def clear(self) -> int:
        """Remove every entry."""
        ...

    async def exists(self, key: str) -> bool:
        """Say whether an entry is there."""
        ...


@runtime_checkable
class CacheMonitor(Protocol):
    """What can be observed of a cache."""

    async def get_statistics(self) -> CacheStats:
        """Return figures by region."""
        ...

    async def get_metrics(self) -> list[Metric]:
        """Return the figures as samples."""
        ...

    def get_events(self) -> Subscription[Event]:
        """Return a subscription to every event."""
        ...

    async def get_health(self) -> Health:
        """Say whether the cache can do its work."""
        ...


class Cache(Maintaining, Listening, BackedUp, Region[Any]):
    """A cache.

    ``config`` defaults to an embedded cache in process memory. ``weigher`` weighs the entries of
    all regions that have no weigher of their own and a memory limit, and is refused where the
    backend stores bytes; there ``codec`` makes the bytes of regions that have no codec of their
    own. ``clock`` and ``backend`` are for tests and for backends of your own; ``storage`` takes the
    place of those that the modes name.
    """

    def __init__(
        self,
        config: CacheConfig | None = None,
        *,
        weigher: Weigher | None = None,
        codec: Codec | None = None,
        clock: Clock | None = None,
        backend: Backend | None = None,
        storage: Storage | None = None,
    ) -> None:
        config = CacheConfig() if config is None else _checked(config, CacheConfig, "config")
        clock = SystemClock() if clock is None else clock
        self._config = config
        self._weigher = weigher
        self._weighers: dict[str, Weigher] = {}
        self._codec = codec
        self._codecs: dict[str, Codec] = {}
        self._storage = storage
        backend = backend or make_backend(config, clock)
        stores = make_stores(config, clock, storage)
        runtime = Runtime(config.name, backend, clock, breaker_of(config), stores)
        _check_metrics(config)
        runtime.configure(self._resolve(config, runtime))
        runtime.tracing.database = traced_as(config)
        runtime.trace(make_tracer(config))
        runtime.sampling.look = partial(take_sample, runtime)
        runtime.sampling.configure(config.monitoring, config.metrics)
        channel = make_channel(config, clock)
        runtime.wait(*_waits(config))
        runtime.maintenance.configure(make_plans(config, runtime), lease_of(config))
        if channel is not None:
            runtime.connect(channel, *_sent(config))
        runtime.config = config
        super().__init__(runtime, DEFAULT_REGION)
        self._warn_inactive(config)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Self:
        """A cache as a YAML file describes it. Raises :class:`ConfigError`."""
        return cls(CacheConfig.from_yaml(path))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """A cache by URL: ``memory://?max_items=1000``. Raises :class:`ConfigError`."""
        return cls(CacheConfig.from_url(url))

    # -- life

    @property
    def config(self) -> CacheConfig:
        """The configuration in force."""
        return self._config

    async def start(self) -> None:
        """Start now instead of at the first call. Idempotent."""
        await self._runtime.ready()

    async def aclose(self) -> None:
        """Cancel running loads, end background work and subscriptions. Idempotent; any later call
        raises :class:`CacheClosed`.
        """
        await keep_hot_keys(self._runtime)
        await self._runtime.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.aclose()  # nobody else will: __aexit__ is not called
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        runtime = getattr(self, "_runtime", None)
        if runtime is not None and runtime.running:
            warnings.warn(
                f"cache {runtime.name!r} was never closed: use 'async with' or 'await aclose()'",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __repr__(self) -> str:
        state = "closed" if self._runtime.closed else self._runtime.backend.kind
        return f"<Cache {self._runtime.name!r} {state}>"

    @cached_property
    def sync(self) -> SyncCache:
        """The same cache without ``await``: ``with Cache().sync as cache:``."""
        from .sync import SyncCache

        return SyncCache(self)

    # -- regions

    @overload
    def region(self, name: str) -> Region[Any]: ...
    @overload
    def region(self, name: str, *, type: type[T]) -> Region[T]: ...
    def region(self, name: str, *, type: type[Any] | None = None) -> Region[Any]:
        """The region ``name``, with its own keys and limits; ``type`` is what its values are.

        Raises :class:`UnknownRegion`.
        """
        return Region(self._runtime, name, type)

    @property
    def regions(self) -> tuple[str, ...]:
        """The names of all regions."""
        return tuple(self._runtime.states)

    @overload
    async def create_region(
        self, region: CacheRegion, *, weigher: Weigher | None = None, codec: Codec | None = None
    ) -> Region[Any]: ...
    @overload
    async def create_region(
        self,
        region: CacheRegion,
        *,
        type: type[T],
        weigher: Weigher | None = None,
        codec: Codec | None = None,
    ) -> Region[T]: ...
    async def create_region(
        self,
        region: CacheRegion,
        *,
        type: type[Any] | None = None,
        weigher: Weigher | None = None,
        codec: Codec | None = None,
    ) -> Region[Any]:
        """Add a region. ``weigher`` gives the weight of a key and its value where the backend keeps
        objects, ``codec`` makes bytes of its values where it does not.

        Raises :class:`ConfigError` where there is one of that name.
        """
        _checked(region, CacheRegion, "region")
        if region.name in self._runtime.states:
            raise ConfigError(
                f"there is a region {region.name!r} already; configure_regions() changes it",
                path=f"regions.{region.name}",
            )
        if weigher is not None:
            self._weighers[region.name] = weigher
        if codec is not None:
            self._codecs[region.name] = codec
        try:
            await self.configure_regions([region])
        except BaseException:
            self._weighers.pop(region.name, None)
            self._codecs.pop(region.name, None)
            raise
        return Region(self._runtime, region.name, type)

    async def clear(self) -> int:
        """Remove all entries of all regions, and let running loads store nothing; how many
        entries there were.
        """
        return await self._access.clear(self.regions)

    async def flush_invalidations(self) -> int:
        """Carry out the invalidations that wait, with the strategies ``deferred`` and ``lazy``;
        how many keys they were. One round trip a node.
        """
        await self._runtime.ready()
        return await self._runtime.waiting.flush()

    # -- settings at run time

    async def configure(self, config: CacheConfig) -> None:
        """Put ``config`` in force, at once or not at all; contents are kept.

        Regions it does not name stay as they are. Raises :class:`ConfigError` where it would change
        the name, the backend or the partitioning, or after the first use a mode.
        """
        _checked(config, CacheConfig, "config")
        for field in _FIXED:
            if getattr(config, field) != getattr(self._config, field):
                raise ConfigError(
                    f"cache.{field} can't change while the cache runs: "
                    f"build a new Cache, or leave it as it is",
                    path=f"cache.{field}",
                )
        runtime = self._runtime
        if runtime.used:
            _refuse_other_modes(self._config, config, runtime)
        _check_metrics(config)
        named = {region.name for region in config.regions}
        kept = tuple([region for region in self._config.regions if region.name not in named])
        config = structs.replace(config, regions=kept + config.regions)
        runtime.check_open()
        self._warn_inactive(config, self._config)
        changed = config.invalidation != self._config.invalidation
        channel = make_channel(config, runtime.clock) if changed else None
        tracer = make_tracer(config)
        plans = make_plans(config, runtime)
        if not runtime.used:
            runtime.store(make_stores(config, runtime.clock, self._storage))
        runtime.configure(self._resolve(config, runtime))
        runtime.trace(tracer)
        self._config = config
        runtime.config = config
        runtime.wait(*_waits(config))
        runtime.sampling.configure(config.monitoring, config.metrics)
        runtime.maintenance.configure(plans, lease_of(config))
        if changed:
            await runtime.reconnect(channel, *_sent(config))

    async def configure_regions(self, regions: Iterable[CacheRegion]) -> None:
        """Add regions, or replace the settings of those there are. None is dropped."""
        if isinstance(regions, CacheRegion):
            regions = [regions]
        changed = tuple([_checked(region, CacheRegion, "a region") for region in regions])
        await self.configure(structs.replace(self._config, regions=changed))

    async def configure_coherence(self, coherence: CacheCoherence) -> None:
        """Set how the cache and its storage are kept together; the mode before the first use."""
        await self.configure(structs.replace(self._config, coherence=coherence))

    async def configure_invalidation(self, invalidation: InvalidationConfig) -> None:
        """Set how invalidations travel between processes."""
        await self.configure(structs.replace(self._config, invalidation=invalidation))

    async def configure_maintenance(self, maintenance: MaintenanceConfig) -> None:
        """Set what is maintained, and when."""
        await self.configure(structs.replace(self._config, maintenance=maintenance))

    async def configure_backup(self, backup: BackupConfig) -> None:
        """Set when and where the cache is backed up; ``cache.backups`` works there from now on."""
        await self.configure(structs.replace(self._config, backup=backup))

    async def configure_monitoring(self, monitoring: MonitoringConfig | MetricsConfig) -> None:
        """Set what is measured (a :class:`MonitoringConfig`), or which metrics are shown and when
        to raise an alert (a :class:`MetricsConfig`). Raises :class:`ConfigError` for a metric that
        there is not.
        """
        if isinstance(monitoring, MetricsConfig):
            await self.configure(structs.replace(self._config, metrics=monitoring))
        else:
            await self.configure(structs.replace(self._config, monitoring=monitoring))

    async def configure_tracing(self, tracing: TracingConfig) -> None:
        """Trace as ``tracing`` says. Raises :class:`MissingExtra` without the extra ``otel``."""
        await self.configure(structs.replace(self._config, tracing=tracing))

    # -- observing

    async def get_statistics(self) -> CacheStats:
        """Figures by region, and their rates over the last interval. One round trip a node."""
        await self._runtime.ready()
        return await collect_statistics(self._runtime)

    async def advise(self, region: str = DEFAULT_REGION) -> Advice:
        """What another size or policy would do for a region, and what its requests are like: see
        :class:`Advice`. Made of a sample of the requests so far, in a thread, in about a second.

        Raises :class:`NotSupported` on a backend whose hits are not answered in this process.
        """
        return await give_advice(self._runtime, region)

    async def record(
        self,
        path: str | Path,
        *,
        seconds: float | str | timedelta = 60,
        sample: float = 0.1,
        region: str = DEFAULT_REGION,
    ) -> int:
        """Write the requests of a region to a file, for ``cache simulate``; returns how many.

        Of a ``sample`` of the keys, hashed: reads that hit, and writes of keys that were not there.
        Takes as long as it says, and to begin and end it looks at every entry once. Raises
        :class:`NotSupported` as :meth:`advise`, OSError where the file can't be written.
        """
        return await record_requests(self._runtime, region, path, seconds, sample)

    async def get_metrics(self) -> list[Metric]:
        """The figures as samples for a metrics system: those that ``metrics`` names, of at most
        ``metrics.max_regions`` regions; none where ``monitoring.metrics`` is off. While the backend
        can't be reached its last figures are given, and ``cache_up`` is 0. One round trip a node.
        """
        return await collect_metrics(self._runtime)

    async def get_health(self) -> Health:
        """Whether the cache can do its work, and what stands in its way, each with its remedy; a
        closed or unreachable one is reported, not raised. ``live`` and ``ready`` of it answer the
        probes of an orchestrator. Two round trips a node.
        """
        return await collect_health(self._runtime, self._inactive(self._config))

    # -- inside

    def _resolve(self, config: CacheConfig, runtime: Runtime) -> Sequence[RegionSettings]:
        """The settings of every region, the default one first."""
        weighed = [*self._weighers.values(), *([] if self._weigher is None else [self._weigher])]
        if runtime.encodes and weighed:
            raise InvalidArgument(
                f"weigher={shown(weighed[0])} can't weigh: backend {runtime.backend.kind!r} stores "
                f"bytes, and what counts for max_memory is their number; leave the weigher out"
            )
        named = {region.name: region for region in config.regions}
        named = {DEFAULT_REGION: CacheRegion(DEFAULT_REGION)} | named
        return [
            resolve_region(
                config,
                region,
                self._weighers.get(name, self._weigher),
                encodes=_makes_bytes(runtime),
                codec=self._codecs.get(name, self._codec),
            )
            for name, region in named.items()
        ]

    def _warn_inactive(self, config: CacheConfig, before: CacheConfig | None = None) -> None:
        known = {} if before is None else self._inactive(before)
        for setting, reason in self._inactive(config).items():
            if setting not in known:
                message = InactiveSetting(f"{setting!r} was checked and kept, and is {reason}")
                warnings.warn_explicit(message, InactiveSetting, *caller())

    def _inactive(self, config: CacheConfig) -> dict[str, str]:
        return inactive_settings(config, encodes=_makes_bytes(self._runtime))


def _makes_bytes(runtime: Runtime) -> bool:
    """Whether values become bytes at some point: a backend may keep objects, and persist them."""
    return runtime.encodes or "persistent" in runtime.backend.capabilities


def _refuse_other_modes(before: CacheConfig, config: CacheConfig, runtime: Runtime) -> None:
    """A region's mode stays: copies made under one mode are not what another expects."""
    named = {region.name: region for region in config.regions}
    for name, region in named.items() if runtime.stored is None else ():
        if config.mode_of(region) is not None:
            raise ConfigError(
                f"region {name!r} can't have a mode: this cache was built without a storage; "
                f"build it with one, in coherence or in another region",
                path=f"regions.{name}.mode",
            )
    known = {region.name: region for region in before.regions}
    for name, state in runtime.states.items():
        wanted = config.mode_of(named.get(name, known.get(name)))
        if wanted != state.settings.mode:
            raise ConfigError(
                f"the mode of region {name!r} can't change while the cache runs, as what is "
                f"cached was cached by it: build a new Cache, or leave it as it is",
                path="coherence.mode",
            )


def _check_metrics(config: CacheConfig) -> None:
    """Raise :class:`ConfigError` for the name of a metric that there is not."""
    for name in () if config.metrics is None else config.metrics.metrics:
        if name.removesuffix("_total") not in METRICS:
            raise ConfigError(
                f"metrics.metrics: there is no metric {name!r} - {nearest(name, METRICS)}",
                path="metrics.metrics",
            )


def _sent(config: CacheConfig) -> tuple[tuple[type[Event], ...], bool]:
    """The kinds of events that go over the channel, and whether receivers compare versions."""
    invalidation = config.invalidation or InvalidationConfig()
    notification, kinds = invalidation.notification, event_kinds()
    names = () if notification is None else notification.events
    return tuple([kinds[name] for name in names]), invalidation.mode == "versioned"


def _waits(config: CacheConfig) -> tuple[Strategy, float, int]:
    """When invalidations of keys are carried out: the strategy, after how long, how many wait."""
    invalidation = config.invalidation or InvalidationConfig()
    strategy = (config.coherence or CacheCoherence()).invalidation
    delay = invalidation.linger if strategy == "lazy" else invalidation.delay
    return strategy, delay, invalidation.queue


def _checked(value: T, kind: type[T], name: str) -> T:
    """``value``, or a :class:`ConfigError` that says what is meant."""
    if not isinstance(value, kind):
        hint = "; Cache.from_file() reads a file, CacheConfig.from_dict() a mapping"
        raise ConfigError(
            f"{name} is a {kind.__name__}, not {shown(value)}"
            + (hint if kind is CacheConfig else "")
        )
    return value
