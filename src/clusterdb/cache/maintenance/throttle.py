"""How fast maintenance may go, so that those who use the cache don't feel it. Pure.

Two bounds, and the slower one counts. A **rate**: so many keys a second. And a **share**: a step
that took long, because servers or disk are busy, is followed by a pause several times as long, so
that maintenance has at most a fifth of the time however slow the backend is; where it is slow
because it is busy, that is when it should be left alone.
"""

from __future__ import annotations

from typing import Final

__all__ = ["Throttle"]

_SHARE: Final = 0.2
_LONGEST: Final = 5.0
_STEPS: Final = 20


class Throttle:
    """The pace of one job: at most ``rate`` keys a second."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.batch = max(1, min(500, rate // _STEPS))
        """So many keys a step: small enough not to be felt by itself."""

    def pause(self, keys: int, took: float) -> float:
        """How many seconds to wait after a step of so many keys that took so long."""
        by_rate = keys / self._rate - took
        by_share = took * (1 / _SHARE - 1)
        return min(_LONGEST, max(0.0, by_rate, by_share))
