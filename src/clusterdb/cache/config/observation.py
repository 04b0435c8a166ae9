"""What the cache measures about itself."""

from __future__ import annotations

from .quantities import Duration, preset
from .settings import Settings, require

__all__ = ["CacheStatistics", "MonitoringConfig"]


class CacheStatistics(Settings, frozen=True, kw_only=True):
    """Statistics over time: one sample every `interval` seconds."""

    enabled: bool = True
    interval: Duration = preset(60.0)

    def _check(self) -> None:
        """Check that samples have a distance."""
        require(self.interval >= 0.1, "interval", "must be at least 100 ms")


class MonitoringConfig(Settings, frozen=True, kw_only=True):
    """Switches: counters for `metrics`, spans for `tracing`, samples for `statistics`."""

    metrics: bool = True
    tracing: bool = False
    statistics: CacheStatistics = CacheStatistics()
