"""The composition root: the one place that matches on kinds and imports adapters, when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from msgspec import structs

from .clock import Clock
from .config import (
    S3,
    Admission,
    BackupConfig,
    BackupStorage,
    BreakerConfig,
    CacheConfig,
    CacheRegion,
    CallableStorage,
    Cleanup,
    Compact,
    Directory,
    Disk,
    MaintenanceConfig,
    MaintenanceTask,
    Memory,
    PostgreSQL,
    Rebalance,
    Redis,
    RedisChannel,
    RedisStream,
    SQLite,
    StorageBackend,
    WriteBehind,
)
from .errors import ConfigError, MissingExtra, NotSupported
from .intents import Intent, Intents, PutAside
from .maintenance import Job, Plan
from .maintenance.backing_up import BackupJob, BackupMaker
from .maintenance.cleanup import CleanupJob
from .maintenance.compact import CompactJob
from .maintenance.rebalance import RebalanceJob
from .protocols import Backend, Channel
from .rows import Storage, StorageSetup
from .schedule import Schedule
from .settings import RegionSettings
from .write_modes import Stores, Volatile

if TYPE_CHECKING:
    from clusterdb.tracing import Tracer

    from .backends.redis.reads import RedisReads
    from .backup import ObjectStore
    from .runtime import Runtime

__all__ = [
    "breaker_of",
    "lease_of",
    "make_backend",
    "make_channel",
    "make_object_store",
    "make_plans",
    "make_reads",
    "make_scratch",
    "make_setup",
    "make_storage",
    "make_stores",
    "make_tracer",
    "read_intents",
    "storages_of",
    "stored_regions",
    "traced_as",
]


def make_backend(config: CacheConfig, clock: Clock) -> Backend:
    """The backend that ``config.backend`` names. Does no I/O."""
    match config.backend:
        case Memory(persist=None, max_process_memory=budget, max_total_memory=total):
            from .backends.memory import MemoryBackend

            return MemoryBackend(clock, budget, total)
        case Memory(persist=str(path), max_process_memory=budget, max_total_memory=total):
            from .backends.persistent import PersistentMemoryBackend

            return PersistentMemoryBackend(clock, Path(path), budget, total)
        case Disk() as disk:
            from .backends.disk import DiskBackend

            return DiskBackend(disk, clock)
        case Redis() as redis:
            try:
                from .backends.redis import RedisBackend
            except ImportError as error:
                raise MissingExtra("backend 'redis'", "redis") from error
            return RedisBackend(redis, config, clock)
    raise NotSupported(f"no backend is made of a {type(config.backend).__name__}")


def breaker_of(config: CacheConfig) -> BreakerConfig | None:
    """The circuit breaker round the backend, if it is to have one."""
    backend = config.backend
    return backend.breaker if isinstance(backend, Disk | Redis) else None


def make_channel(config: CacheConfig, clock: Clock) -> Channel | None:
    """The channel of events that ``config.invalidation`` names, if it does. Does no I/O. Raises
    :class:`ConfigError` where nothing says on which servers it is.
    """
    wanted = None if config.invalidation is None else config.invalidation.notification
    if wanted is None:
        return None
    server = wanted.backend.server
    if server is None and isinstance(config.backend, Redis):
        server = config.backend
    if server is None:
        kind = config.backend.__struct_config__.tag
        path = "invalidation.notification.backend.server"
        raise ConfigError(
            f"{path}: is missing, and backend {kind!r} has no Redis server that could carry the "
            f"events; name one: server=Redis(urls=[...])",
            path=path,
        )
    try:
        from .backends.redis.channel import RedisPubSub, channel_link
        from .backends.redis.stream import RedisStreamChannel
    except ImportError as error:
        raise MissingExtra("a channel on Redis", "redis") from error
    link = channel_link(server, config.name, clock)
    match wanted.backend:
        case RedisChannel(channel=name):
            return RedisPubSub(link, name)
        case RedisStream(stream=name, max_length=length):
            return RedisStreamChannel(link, name, length)
    raise NotSupported(f"no channel is made of a {type(wanted.backend).__name__}")


def make_storage(config: StorageBackend, clock: Clock, origin: str = "") -> Storage:
    """The storage that ``config`` names; ``origin`` is what others read of its changes. Does no
    I/O.
    """
    match config:
        case SQLite() as sqlite:
            from .storage.sqlite import SQLiteStorage

            return SQLiteStorage(sqlite, clock, origin)
        case PostgreSQL() as postgres:
            try:
                from .storage.postgres import PostgresStorage
            except ImportError as error:
                raise MissingExtra("storage 'postgresql'", "postgres") from error
            return PostgresStorage(postgres, clock, origin)
        case CallableStorage() as functions:
            from .storage.callables import CallableRows

            return CallableRows(functions)
    raise NotSupported(f"no storage is made of a {type(config).__name__}")


def make_setup(config: StorageBackend, clock: Clock) -> StorageSetup:
    """What makes the tables of a storage. Does no I/O. Raises :class:`NotSupported` for one that
    has none.
    """
    storage: object = make_storage(config, clock)
    if not hasattr(storage, "init"):
        raise NotSupported(f"storage {type(config).__name__} has no tables to make")
    return cast("StorageSetup", storage)


def storages_of(config: CacheConfig) -> dict[str, StorageBackend]:
    """The storages of a configuration by where they stand in it, each once."""
    modes = {} if config.coherence is None else {"coherence.mode": config.coherence.mode}
    modes |= {
        f"regions.{region.name}.mode": getattr(region, "mode", None) for region in config.regions
    }
    found: dict[str, StorageBackend] = {}
    for place, mode in modes.items():
        backend = getattr(mode, "backend", None)
        if backend is not None and backend not in found.values():
            found[place] = backend
    return found


def make_object_store(config: BackupStorage) -> ObjectStore:
    """The place of backups that ``config`` names. Does no I/O."""
    match config:
        case Directory(path=path):
            from .backup.directory import DirectoryStore

            return DirectoryStore(Path(path).expanduser())
        case S3() as s3:
            try:
                from .backup.s3 import S3Store
            except ImportError as error:
                raise MissingExtra("a backup to S3", "s3") from error
            return S3Store(s3)
    raise NotSupported(f"no place of backups is made of a {type(config).__name__}")


def make_scratch(regions: Iterable[RegionSettings], clock: Clock) -> Backend:
    """An empty backend in memory, with these regions and without their limits, for a trial."""
    from .backends.memory import MemoryBackend

    backend = MemoryBackend(clock)
    unlimited = {"max_items": None, "max_weight": None, "admission": Admission(), "weigher": None}
    backend.configure({each.name: structs.replace(each, **unlimited) for each in regions})
    return backend


class _Stores:
    """Makes storages, and the places of what is written behind, for one cache."""

    def __init__(self, config: CacheConfig, clock: Clock, given: Storage | None) -> None:
        self._config = config
        self._clock = clock
        self._given = given

    def storage(self, config: StorageBackend, origin: str) -> Storage:
        return self._given or make_storage(config, self._clock, origin)

    def intents(self, mode: WriteBehind) -> Intents:
        if mode.durability == "memory":
            return Volatile()
        if mode.durability == "replicated":
            from .backends.redis.intents import redis_intents

            return redis_intents(self._config, self._clock)
        from .storage.journal import Journals, journal_directory

        return Journals(journal_directory(self._config.name, mode.journal))


def make_stores(config: CacheConfig, clock: Clock, storage: Storage | None) -> Stores | None:
    """What makes the storages behind a cache, ``storage`` where one was given; ``None`` without
    any. Does no I/O.
    """
    modes = [config.mode_of(None), *[config.mode_of(region) for region in config.regions]]
    return _Stores(config, clock, storage) if any(modes) else None


async def read_intents(config: CacheConfig, clock: Clock) -> tuple[list[Intent], list[PutAside]]:
    """What is to be written behind, and what the database refused, as far as the places where they
    are kept can be read without taking anything: for a person.
    """
    modes = {config.mode_of(None), *[config.mode_of(region) for region in config.regions]}
    intents: list[Intent] = []
    aside: list[PutAside] = []
    for mode in modes:
        if isinstance(mode, WriteBehind) and mode.durability == "journal":
            from .storage.journal import journal_directory, read_journals

            found = read_journals(journal_directory(config.name, mode.journal))
            intents, aside = intents + found[0], aside + found[1]
    if any(isinstance(mode, WriteBehind) and mode.durability == "replicated" for mode in modes):
        from .backends.redis.intents import redis_intents

        place = redis_intents(config, clock)
        try:
            intents += await place.open(lambda _: True)
            aside += await place.aside()
        finally:
            await place.aclose()
    return intents, aside


def make_reads(config: CacheConfig, region: str, clock: Clock) -> RedisReads:
    """What reads of a region by other processes are heard from. Does no I/O. Raises
    :class:`NotSupported` where they happen inside of these processes only.
    """
    server = config.backend
    if not isinstance(server, Redis):
        raise NotSupported(
            f"backend {server.__struct_config__.tag!r} is read inside of the programs that use it, "
            f"where no other process sees it: let one of them record itself, by "
            f"'await cache.record(path, seconds=60)' or 'cache.sync.record(path)'"
        )
    try:
        from .backends.redis.reads import RedisReads
    except ImportError as error:
        raise MissingExtra("backend 'redis'", "redis") from error
    return RedisReads(server, config.partitioning, config.name, region, clock)


def stored_regions(config: CacheConfig) -> dict[str, CacheRegion]:
    """The regions that the backend itself knows, by name; none where it keeps no settings."""
    if not isinstance(config.backend, Disk):
        return {}
    from .backends.disk.stored import stored_regions

    return stored_regions(Path(config.backend.path).expanduser())


def make_plans(config: CacheConfig, runtime: Runtime) -> tuple[Plan, ...]:
    """What is run now and then, as ``config.maintenance`` and ``config.backup`` say. Raises
    :class:`ConfigError` for a schedule that never comes due, :class:`MissingExtra` without the
    extra ``schedule``.
    """
    plans: list[Plan] = []
    if config.maintenance is not None:
        plans.append(_maintenance(config.maintenance, runtime))
    if config.backup is not None:
        plans.append(_backup(config.backup, runtime))
    return tuple(plans)


def _maintenance(wanted: MaintenanceConfig, runtime: Runtime) -> Plan:
    schedule = Schedule(wanted.schedule, wanted.timezone, wanted.jitter, path="maintenance")
    upkeep: object = getattr(runtime.backend, "upkeep", None)

    def storages() -> list[Storage]:
        stored = runtime.stored
        return [] if stored is None else [store.storage for store in stored.stores]

    jobs: list[Job] = []
    for task in wanted.tasks:
        kind = task.__struct_config__.tag
        like = sum([job.name.partition("-")[0] == kind for job in jobs])
        name = f"{kind}-{like + 1}" if like else str(kind)
        jobs.append(_job(task, name, upkeep, storages))
    return Plan("maintenance", jobs, schedule, wanted.time_budget, wanted.rate_limit)


def _backup(wanted: BackupConfig, runtime: Runtime) -> Plan:
    def backups() -> BackupMaker:
        from .backing import CacheHost
        from .backup import Backups

        return Backups(wanted, CacheHost(runtime, wanted))

    schedule = Schedule(wanted.schedule, wanted.timezone, wanted.jitter, path="backup")
    return Plan("backup", [BackupJob(backups)], schedule)


def _job(
    task: MaintenanceTask, name: str, upkeep: object, storages: Callable[[], Sequence[Storage]]
) -> Job:
    match task:
        case Cleanup(older_than=older_than):
            return CleanupJob(name, upkeep, storages, older_than)
        case Compact(threshold=threshold):
            return CompactJob(name, upkeep, storages, threshold)
        case Rebalance(threshold=threshold):
            return RebalanceJob(name, upkeep, threshold)


def lease_of(config: CacheConfig) -> float:
    """How many seconds a process may be silent before another one runs the tasks."""
    return (config.maintenance or MaintenanceConfig(schedule="0 * * * *")).lease


def make_tracer(config: CacheConfig) -> Tracer | None:
    """What makes spans, where ``config`` wants them: by the switch ``monitoring.tracing``, or by
    saying how. Raises :class:`MissingExtra`.
    """
    if config.tracing is None and not config.monitoring.tracing:
        return None
    try:
        from clusterdb.tracing.tracer import Tracer
    except ImportError as error:
        raise MissingExtra("tracing", "otel") from error
    return Tracer(config.tracing)


def traced_as(config: CacheConfig) -> Mapping[str, str | int]:
    """What stands in the span of each call of the backend: the system, and where it is if it is
    one server, by the names that OpenTelemetry has for databases. No credentials.
    """
    match config.backend:
        case Disk(path=path):
            return {"db.system.name": "sqlite", "db.namespace": Path(path).name}
        case Redis(urls=[url], cluster=False, sentinel=None):
            parts = urlsplit(url)
            if parts.scheme == "unix":
                return {"db.system.name": "redis", "server.address": parts.path}
            return {
                "db.system.name": "redis",
                "db.namespace": parts.path.strip("/") or "0",
                "server.address": parts.hostname or "localhost",
                "server.port": parts.port or 6379,
            }
        case Redis():
            return {"db.system.name": "redis"}
    return {"db.system.name": str(config.backend.__struct_config__.tag)}
