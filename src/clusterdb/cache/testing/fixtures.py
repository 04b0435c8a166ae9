"""Fixtures for pytest: ``pytest_plugins = ["clusterdb.cache.testing.fixtures"]`` in a conftest.

``cache`` is a fresh :class:`Cache` for each test, closed after it. Its time is that of
``manual_clock``: it stands still until the test moves it. ``cache_config`` is what it is built
from; override it for limits, regions and the like. Nothing here needs a plugin for asyncio: the
same fixture serves plain tests, by ``cache.sync``, and asynchronous ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..config import CacheConfig
from ..manager import Cache
from .clock import ManualClock

__all__ = ["cache", "cache_config", "manual_clock"]


@pytest.fixture
def manual_clock() -> ManualClock:
    """The clock of ``cache``."""
    return ManualClock()


@pytest.fixture
def cache_config() -> CacheConfig:
    """The configuration of ``cache``: the defaults, unless overridden."""
    return CacheConfig()


@pytest.fixture
def cache(cache_config: CacheConfig, manual_clock: ManualClock) -> Iterator[Cache]:
    """A cache of the test's own."""
    fresh = Cache(cache_config, clock=manual_clock)
    yield fresh
    loop = fresh.access.runtime.loop
    if loop is None or loop.is_running():
        fresh.sync.close()
    else:  # the test's own, which its plugin closes after us
        loop.run_until_complete(fresh.aclose())
