"""A cache for the tests, closed after each from whatever loop it lives in."""

from clusterdb.cache.testing.fixtures import cache, cache_config, manual_clock

__all__ = ["cache", "cache_config", "manual_clock"]
