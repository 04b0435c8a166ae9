"""The composition root: the one place that matches on kinds and imports adapters, when needed."""

from __future__ import annotations

from pathlib import Path

from .clock import Clock
from .config import CacheConfig, CacheRegion, Disk, Memory, Redis
from .errors import MissingExtra, NotSupported
from .protocols import Backend

__all__ = ["make_backend", "stored_regions"]


def make_backend(config: CacheConfig, clock: Clock) -> Backend:
    """The backend that ``config.backend`` names. Does no I/O."""
    match config.backend:
        case Memory(persist=None, max_process_memory=budget):
            from .backends.memory import MemoryBackend

            return MemoryBackend(clock, budget)
        case Memory(persist=str(path), max_process_memory=budget):
            from .backends.persistent import PersistentMemoryBackend

            return PersistentMemoryBackend(clock, Path(path), budget)
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


def stored_regions(config: CacheConfig) -> dict[str, CacheRegion]:
    """The regions that the backend itself knows, by name; none where it keeps no settings."""
    if not isinstance(config.backend, Disk):
        return {}
    from .backends.disk.stored import stored_regions

    return stored_regions(Path(config.backend.path).expanduser())
