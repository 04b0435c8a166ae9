"""A circuit breaker: whether a call that may well fail is made at all.

Calls to what does not answer cost their callers a timeout each, and what is struggling the strength
to come back. So they are counted. *Closed*, every call is made. After too many failures the circuit
is *open*: for a while none is made. Then it is *half open*: a few probes go through, and decide.
Source: M. Nygard, "Release It!", 2007, and the state diagram of M. Fowler's "CircuitBreaker".

The share of failures is taken over the present half of the window and the one before it: two pairs
of numbers, whatever the number of calls. So what counts is between half a window and a whole one
old. Rejected: a timestamp a call (memory that grows with the load).

Pure: the time is an argument. Who is let through tells how it went, by :meth:`succeeded`,
:meth:`failed`, or :meth:`left` where nobody can say.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from .config import BreakerConfig

__all__ = ["Breaker", "CircuitState"]

CircuitState: TypeAlias = Literal["closed", "open", "half_open"]


class Breaker:
    """One circuit. ``opened`` and ``refused`` count; ``in_row`` are the failures since the last
    success.
    """

    def __init__(self, config: BreakerConfig) -> None:
        self.config = config
        self.state: CircuitState = "closed"
        self.opened = 0
        self.refused = 0
        self.in_row = 0
        self._until = 0.0
        self._probing = 0
        self._good = 0
        self._half = 0
        self._now_half = self._last_half = (0, 0)

    def admits(self, now: float) -> bool:
        """Whether a call may be made. One that may has to be told of afterwards."""
        if self.state == "closed":
            return True
        if self.state == "open" and now >= self._until:
            self.state, self._good = "half_open", 0
            self._probe_again(now)
        elif self.state == "half_open" and now >= self._until:
            self._probe_again(now)  # those that were let through are not heard of
        if self.state == "half_open" and self._probing < self.config.probes:
            self._probing += 1
            return True
        self.refused += 1
        return False

    def retry_in(self, now: float) -> float:
        """Seconds until a call may be let through again; 0 unless the circuit is open."""
        return max(0.0, self._until - now) if self.state == "open" else 0.0

    def succeeded(self, now: float) -> None:
        """A call that was let through got its answer."""
        self.in_row = 0
        if self.state == "closed":
            self._count(now, 0)
        elif self.state == "half_open":
            self._probing = max(0, self._probing - 1)
            self._good += 1
            if self._good >= self.config.probes:
                self.state = "closed"
                self._now_half = self._last_half = (0, 0)

    def failed(self, now: float) -> None:
        """A call that was let through failed."""
        self.in_row += 1
        if self.state == "closed":
            calls, failures = self._count(now, 1)
            config = self.config
            many = calls >= config.calls and failures >= config.share * calls
            if many or self.in_row >= config.failures:
                self._open(now)
        elif self.state == "half_open":
            self._open(now)

    def left(self) -> None:
        """A call that was let through ended without telling how it would have gone."""
        self._probing = max(0, self._probing - 1)

    def _probe_again(self, now: float) -> None:
        self._probing, self._until = 0, now + self.config.pause

    def _open(self, now: float) -> None:
        self.state = "open"
        self.opened += 1
        self._until = now + self.config.pause

    def _count(self, now: float, failures: int) -> tuple[int, int]:
        """Count a call; the calls and failures of the window."""
        half = int(now / (self.config.window / 2))
        if half != self._half:
            self._last_half = self._now_half if half == self._half + 1 else (0, 0)
            self._now_half, self._half = (0, 0), half
        calls, failed = self._now_half
        self._now_half = calls + 1, failed + failures
        return (
            self._now_half[0] + self._last_half[0],
            self._now_half[1] + self._last_half[1],
        )
