"""When calls that keep failing are no longer made."""

from __future__ import annotations

from .quantities import Count, Duration, Fraction, preset
from .settings import Settings, require

__all__ = ["BreakerConfig"]


class BreakerConfig(Settings, frozen=True, kw_only=True):
    """A circuit breaker: when calls that keep failing are no longer made.

    It opens after `failures` in a row, or where of at least `calls` within `window` a `share`
    failed. Then none is made for `pause`, and after it `probes` are let through at a time: it
    closes when that many have succeeded, and opens again when one fails.
    """

    failures: Count = 5
    share: Fraction = 0.5
    calls: Count = 20
    window: Duration = preset("10s")
    pause: Duration = preset("5s")
    probes: Count = 1

    def _check(self) -> None:
        """Check that there is time to count, and to wait."""
        require(self.share > 0, "share", "0.0 would open at once: 1.0 is all calls")
        for name in ("window", "pause"):
            require(getattr(self, name) > 0, name, "must be above 0 seconds")
