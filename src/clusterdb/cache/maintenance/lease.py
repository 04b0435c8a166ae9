"""One leader among many processes, without comparing clocks. Pure; the time is an argument.

The leader gives a sign of life (a number that grows) a few times in a lease. Whoever wants to lead
watches it: only who has seen the *same* sign for a whole lease, by the watcher's own monotonic
clock, takes over. The leader trusts itself for nine tenths of a lease after it **sent** its last
sign, so it has stopped before anybody can follow it, whatever the clocks of the calendar say. One
that stands still meanwhile finds out before it goes on: its own clock counts the pause, and what it
stores is refused, as another's token stands there.

Source: C. Gray, D. Cheriton, "Leases", SOSP 1989; watching instead of expiry times is how
Kubernetes elects leaders. Rejected: a key with a TTL, which not every backend has.
"""

from __future__ import annotations

import math
import os
from typing import Final

from .state import Leader

__all__ = ["Lease", "Watch"]

_TRUSTED: Final = 0.9


class Watch:
    """What a process that does not lead sees of the one that does."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: tuple[str, int] | None = None
        self._since = math.inf

    def is_free(self, leader: Leader | None, now: float) -> bool:
        """Whether nobody leads: it was given back, or there was no sign for a whole lease."""
        if leader is None:
            return True
        sign = (leader.token, leader.beat)
        if sign != self._seen:
            self._seen, self._since = sign, now
        return now - self._since >= self._lease


class Lease:
    """The lease of a process that leads, or led; ``name`` says who it is."""

    def __init__(self, name: str, seconds: float) -> None:
        self.leader = Leader(os.urandom(8).hex(), name)
        self._seconds = seconds * _TRUSTED
        self._sent_at = -math.inf

    @property
    def token(self) -> str:
        """What nobody else has."""
        return self.leader.token

    def renew(self, sent_at: float) -> None:
        """A sign of life was stored that was sent at ``sent_at``."""
        self._sent_at = max(self._sent_at, sent_at)

    def lose(self) -> None:
        """Another leads."""
        self._sent_at = -math.inf

    def holds(self, now: float) -> bool:
        """Whether nobody else can lead yet."""
        return now - self._sent_at < self._seconds
