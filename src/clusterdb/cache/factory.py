"""The composition root: the one place that matches on kinds and imports adapters, when needed."""

from __future__ import annotations

from pathlib import Path

from .clock import Clock
from .config import CacheConfig, Disk, Memory
from .errors import NotSupported
from .protocols import Backend

__all__ = ["make_backend"]


def make_backend(config: CacheConfig, clock: Clock) -> Backend:
    """The backend that ``config.backend`` names. Does no I/O."""
    match config.backend:
        case Memory(persist=None):
            from .backends.memory import MemoryBackend

            return MemoryBackend(clock)
        case Memory(persist=str(path)):
            from .backends.persistent import PersistentMemoryBackend

            return PersistentMemoryBackend(clock, Path(path))
        case Disk() as disk:
            from .backends.disk import DiskBackend

            return DiskBackend(disk, clock)
        case _:
            raise NotSupported("backend 'redis' is not in this version yet; use 'memory'")
