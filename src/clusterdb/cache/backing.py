"""The backups of a cache, as its users reach them: ``cache.backups``."""

from __future__ import annotations

from collections.abc import Sequence

from .backup import Backups, ObjectStore
from .clock import Clock
from .config import BackupConfig
from .errors import ConfigError
from .events import EntrySet
from .factory import make_object_store, make_scratch
from .protocols import Backend, Exported, Written
from .runtime import Runtime

__all__ = ["BackedUp", "CacheHost", "backups_of"]


class CacheHost:
    """A cache, as its backups know it."""

    def __init__(self, runtime: Runtime, config: BackupConfig) -> None:
        self._runtime, self._config = runtime, config

    @property
    def name(self) -> str:
        return self._runtime.name

    @property
    def clock(self) -> Clock:
        return self._runtime.clock

    @property
    def backend(self) -> Backend:
        return self._runtime.backend

    @property
    def regions(self) -> Sequence[str]:
        return tuple(self._runtime.states)

    async def ready(self) -> None:
        await self._runtime.ready()

    def place(self) -> ObjectStore:
        return make_object_store(self._config.storage)

    def scratch(self) -> Backend:
        settings = [state.settings for state in self._runtime.states.values()]
        return make_scratch(settings, self._runtime.clock)

    def restored(self, region: str, written: Sequence[tuple[Exported, Written]]) -> None:
        """Loads of these keys are of the past; and whoever listens hears of the entries."""
        runtime = self._runtime
        for entry, outcome in written:
            runtime.forget(region, entry.key)
            if runtime.events.active:
                runtime.publish(
                    EntrySet,
                    region=region,
                    key=entry.key,
                    version=outcome.version,
                    tags=entry.tags,
                )


class BackedUp:
    """The operation of a face that gives its backups."""

    _runtime: Runtime

    @property
    def backups(self) -> Backups:
        """The backups of this cache: ``create``, ``list``, ``verify``, ``restore``, ``prune``.

        Raises :class:`ConfigError` where nothing says where they are kept.
        """
        return backups_of(self._runtime)


def backups_of(runtime: Runtime) -> Backups:
    """The backups of a cache. Raises :class:`ConfigError` where it has no place for them."""
    config = runtime.config.backup
    if config is None:
        raise ConfigError(
            "backup: is not configured, so nothing says where backups are kept: "
            "'backup: {schedule: ..., retention: ..., storage: ...}', or configure_backup()",
            path="backup",
        )
    return Backups(config, CacheHost(runtime, config))
