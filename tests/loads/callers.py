"""What the direct tests have in common: a loader with a gate, and a cache with load settings."""

from __future__ import annotations

import asyncio
from typing import Any

from clusterdb.cache import Cache, CacheConfig, CacheRegion, LoadConfig

__all__ = ["Gate", "configured", "settle"]


class Gate:
    """A loader that counts its calls and waits until it is opened.

    ``error`` is raised instead of a value; ``began`` is set by the first call.
    """

    def __init__(self, value: Any = "value", error: BaseException | None = None) -> None:
        self.value = value
        self.error = error
        self.calls = 0
        self.cancelled = 0
        self.began = asyncio.Event()
        self._open = asyncio.Event()

    async def __call__(self) -> Any:
        self.calls += 1
        self.began.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return self.value

    def open(self) -> None:
        self._open.set()


def configured(backend: Any = None, **settings: Any) -> Cache:
    """A cache whose default region has these settings, ``loads`` as keywords of its own."""
    loads = LoadConfig(**settings.pop("loads", {}))
    region = CacheRegion("default", loads=loads, **settings)
    return Cache(CacheConfig(regions=(region,)), backend=backend)


async def settle(rounds: int = 20) -> None:
    """Let every task go on until it waits for something outside."""
    for _ in range(rounds):
        await asyncio.sleep(0)
