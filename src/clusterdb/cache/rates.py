"""Rates: what happened in a region a second, over the last interval between two samples.

Pure: samples and their moments are arguments. Beside the counters since the start, which only grow,
these are what a person wants to see.
"""

from __future__ import annotations

from collections.abc import Mapping

from .stats import RegionRates, RegionStats

__all__ = ["RateHistory"]


class RateHistory:
    """The last two samples. It begins at ``now`` with nothing counted."""

    def __init__(self, now: float) -> None:
        self._at = now
        self._last: Mapping[str, RegionStats] = {}
        self.rates: dict[str, RegionRates] = {}

    def add(self, regions: Mapping[str, RegionStats], now: float) -> None:
        """Take a sample; no rates come of one at the moment of that before."""
        seconds = now - self._at
        if seconds <= 0:
            return
        self.rates = {
            name: _rates(self._last.get(name), region, seconds) for name, region in regions.items()
        }
        self._at, self._last = now, regions


_COUNTED = tuple(
    [name for name in RegionRates.__struct_fields__ if name not in ("seconds", "hit_ratio")]
)


def _rates(before: RegionStats | None, after: RegionStats, seconds: float) -> RegionRates:
    """A counter that became smaller began anew."""
    grown = {}
    for field in _COUNTED:
        now, then = getattr(after, field), 0 if before is None else getattr(before, field)
        grown[field] = now - then if now >= then else now
    reads = grown["hits"] + grown["misses"]
    rates = {field: growth / seconds for field, growth in grown.items()}
    return RegionRates(seconds=seconds, hit_ratio=grown["hits"] / reads if reads else None, **rates)


assert set(_COUNTED) <= set(RegionStats.__struct_fields__)
