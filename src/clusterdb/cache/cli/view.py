"""A cache to look at: one that a command opened, or (:mod:`.served`) one that somebody serves."""

from __future__ import annotations

from typing import Protocol

from clusterdb.cache import Cache
from clusterdb.monitoring import Metric

from ..overview import Overview, look_over
from .config import places
from .figures import metrics_of

__all__ = ["OpenedView", "View"]


class View(Protocol):
    """What commands that only look need of a cache."""

    @property
    def at(self) -> list[str]:
        """Where it is: paths or addresses, without credentials."""
        ...

    async def overview(self) -> Overview:
        """The cache, asked now. Counts as no read."""
        ...

    async def metrics(self) -> list[Metric]:
        """Its figures as samples."""
        ...


class OpenedView:
    """A cache that this process has opened."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def at(self) -> list[str]:
        return places(self._cache.config.backend)

    async def overview(self) -> Overview:
        return await look_over(self._cache)

    async def metrics(self) -> list[Metric]:
        return metrics_of(await self.overview())
