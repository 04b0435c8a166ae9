"""Loads behind their callers' backs: how many at once, and who hears of one that fails.

A caller that was given a value does not wait for the load that renews it. So a region runs at most
``max_concurrent_loads`` of them, and beyond that none is begun: the next caller tries again. What
goes wrong reaches nobody; the log has it, one line a minute and region, with the number of those
since the last one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..settings import RegionSettings

__all__ = ["Behind"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_EVERY: Final = 60.0


class Behind:
    """The loads of one cache that nobody waits for."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._running: Counter[str] = Counter()
        self._unsaid: Counter[str] = Counter()
        self._quiet_until: dict[str, float] = {}

    def admits(self, region: RegionSettings) -> bool:
        """Whether one more may be begun."""
        return self._running[region.name] < region.loads.max_concurrent_loads

    def began(self, region: RegionSettings, task: asyncio.Task[Any]) -> None:
        """``task`` is one."""
        self._running[region.name] += 1
        task.add_done_callback(partial(self._ended, region.name))

    def _ended(self, region: str, task: asyncio.Task[Any]) -> None:
        self._running[region] -= 1
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        now = self._now()
        if now < self._quiet_until.get(region, now):
            self._unsaid[region] += 1
            return
        _LOG.warning(
            "region %r: a load behind its callers failed, and its old value stays: %r "
            "(%d more since the last such line)",
            region,
            error,
            self._unsaid.pop(region, 0),
        )
        self._quiet_until[region] = now + _EVERY
