"""What holds for a whole Redis is read off the regions of users."""

from __future__ import annotations

from clusterdb.cache import CacheConfig, Redis
from clusterdb.cache.backends.redis import RedisBackend
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.settings import MAINTENANCE, plain_region
from clusterdb.cache.testing.conformance.harness import region_settings


def test_a_region_of_our_own_takes_no_copies_away():
    redis = Redis(urls=["redis://127.0.0.1:1"])
    backend = RedisBackend(redis, CacheConfig(backend=redis), SystemClock())
    users = region_settings("default", copies=2, confirm="quorum", max_staleness=3.0)
    backend.configure({"default": users})
    backend.configure({MAINTENANCE: plain_region(MAINTENANCE, None)})

    link, confirming = backend._link, backend._confirming
    assert (link.copies, confirming.by, backend._confirm_every()) == (2, "quorum", 1.0)
