"""What of one region could not be read: counted, and told to the log now and then.

An entry that can't be decoded is no error of its reader, who gets a miss; but somebody should know.
A disk full of them must not fill the log too: one line a minute, with the number of those since the
last one.
"""

from __future__ import annotations

import logging
from typing import Final

from .stats import ReadCounters

__all__ = ["Unreadable"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_EVERY: Final = 60.0


class Unreadable:
    """The unreadable entries of one region."""

    def __init__(self, region: str) -> None:
        self.counters = ReadCounters()
        self._region = region
        self._quiet_until: float | None = None
        self._unsaid = 0

    def note(self, key: str, reason: object, now: float) -> None:
        """Count one, and log it unless the last line is less than a minute old."""
        self.counters.undecodable += 1
        if self._quiet_until is not None and now < self._quiet_until:
            self._unsaid += 1
            return
        _LOG.warning(
            "region %r: what is stored under %r counts as a miss, as it can't be read: %s "
            "(%d more since the last such line)",
            self._region,
            key,
            reason,
            self._unsaid,
        )
        self._quiet_until, self._unsaid = now + _EVERY, 0
