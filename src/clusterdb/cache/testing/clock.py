"""A clock that a test moves by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["ManualClock"]


class ManualClock:
    """Fulfils :class:`clusterdb.cache.clock.Clock`; time passes only in :meth:`advance`.

    ``start`` is the first reading of ``now()``, ``epoch`` that of ``wall()``, both in seconds.
    """

    def __init__(self, start: float = 1000.0, epoch: float = 1_700_000_000.0) -> None:
        self._seconds = start
        self._epoch = epoch - start
        self.now: Callable[[], float] = self._read

    def _read(self) -> float:
        return self._seconds

    def wall(self) -> float:
        return self._epoch + self._seconds

    def advance(self, seconds: float) -> float:
        """Let ``seconds`` pass; the new reading of ``now()``. Raises ValueError below 0."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"time only goes forward by a finite step, not by {seconds!r} s")
        self._seconds += seconds
        return self._seconds
