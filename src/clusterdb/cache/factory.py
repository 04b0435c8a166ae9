"""The composition root: the one place that matches on kinds and imports adapters, when needed."""

from __future__ import annotations

from .clock import Clock
from .config import CacheConfig, Disk, Memory
from .errors import NotSupported
from .protocols import Backend

__all__ = ["make_backend"]


def make_backend(config: CacheConfig, clock: Clock) -> Backend:
    """The backend that ``config.backend`` names. Does no I/O."""
    match config.backend:
        case Memory():
            from .backends.memory import MemoryBackend

            return MemoryBackend(clock)
        case Disk():
            raise NotSupported("backend 'disk' is not in this version yet; use 'memory'")
        case _:
            raise NotSupported("backend 'redis' is not in this version yet; use 'memory'")
