"""What stands round the backend of a cache, and the way through it."""

from typing import Any

from clusterdb.cache import Cache

__all__ = ["innermost"]


def innermost(cache: Cache) -> Any:
    """The backend itself, without what measures and guards its calls."""
    backend: Any = cache.access.runtime.backend
    while hasattr(backend, "_backend"):
        backend = backend._backend
    return backend
