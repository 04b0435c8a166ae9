"""The cache most programs begin with, for comparison: get, load on a miss, set."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["NaiveCache"]

T = TypeVar("T")


class NaiveCache(Generic[T]):
    """A dict with get, load and set. Correct for one caller at a time, and for nobody else."""

    def __init__(self) -> None:
        self._values: dict[str, T] = {}

    async def get_or_load(self, key: str, loader: Callable[[], Awaitable[T]]) -> T:
        """The value under ``key``, loaded where it is missing."""
        if key not in self._values:
            self._values[key] = await loader()
        return self._values[key]

    async def invalidate(self, key: str) -> None:
        """Remove the value under ``key``."""
        self._values.pop(key, None)
