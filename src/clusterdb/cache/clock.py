"""Time as an argument: the clock of ages and the clock of calendars.

Ages and deadlines inside a process use ``now()``, seconds of a clock that never goes back and
counts the machine's pauses (``CLOCK_BOOTTIME`` where there is one). ``wall()`` is only for what a
person reads. Engines never ask a clock: they are given ``now``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What the cache needs to know about time."""

    @property
    def now(self) -> Callable[[], float]:
        """A function that gives seconds of a monotonic clock, in this process only."""
        ...

    def wall(self) -> float:
        """Seconds since the Unix epoch; may jump."""
        ...


def _choose() -> Callable[[], float]:
    """The fastest function for a clock that counts the machine's pauses, where there is one."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return time.monotonic
    try:
        from ._boottime import boottime
    except ImportError:
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return boottime


_steady = _choose()


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self.now = _steady

    def wall(self) -> float:
        return time.time()
