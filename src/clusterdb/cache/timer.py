"""A look at the clock round a call of a backend, and what the call came to.

The calls by which nearly all time passes, reads and writes, are written out: a call that is made
through its arguments costs more than the looks at the clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, Final

from clusterdb.monitoring.timings import BOUNDS, Histogram, Timings

from .errors import BackendSuspended, BackendUnavailable, CacheError, OutcomeUnknown
from .protocols import Backend, Change, Written
from .types import Record

__all__ = ["Timer"]

_BOUNDS: Final[list[float]] = list(BOUNDS)  # compiled, a tuple of floats is made anew at each use


class Timer:
    """Observes calls of ``backend`` by ``timings``. What the breaker refused, and reads that the
    near tier answered, are left out.

    The call is made in here: of one that is cancelled before it began nothing is left.
    """

    def __init__(self, backend: Backend, timings: Timings) -> None:
        self._backend = backend
        self._timings = timings
        self._histograms: dict[tuple[str, str, str], Histogram] = {}

    async def read(
        self, region: str, keys: Sequence[str], stale: bool, consistent: bool, brief: bool
    ) -> list[Record | None]:
        """See :meth:`Backend.read`."""
        began = perf_counter()
        came: str | None = "cancelled"
        try:
            records = await self._backend.read(
                region, keys, stale=stale, consistent=consistent, brief=brief
            )
            came = _read(records)
        except Exception as error:
            came = _failure(error)
            raise
        finally:
            self._note("read", region, came, perf_counter() - began)
        return records

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        """See :meth:`Backend.write`."""
        began = perf_counter()
        came: str | None = "cancelled"
        try:
            outcomes = await self._backend.write(region, changes)
            came = _written(outcomes)
        except Exception as error:
            came = _failure(error)
            raise
        finally:
            self._note("write", region, came, perf_counter() - began)
        return outcomes

    async def call(
        self, operation: str, region: str, call: Callable[[], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Any other call."""
        began = perf_counter()
        came: str | None = "cancelled"
        try:
            answer = await call()
            judge = _OUTCOMES.get(operation)
            came = "ok" if judge is None else judge(answer)
        except Exception as error:
            came = _failure(error)
            raise
        finally:
            self._note(operation, region, came, perf_counter() - began)
        return answer

    def _note(self, operation: str, region: str, came: str | None, seconds: float) -> None:
        if came is None:
            return
        labels = (operation, region, came)
        histogram = self._histograms.get(labels)
        if histogram is None:
            histogram = self._timings.histogram((self._backend.kind, *labels))
            self._histograms[labels] = histogram
        histogram.counts[bisect_left(_BOUNDS, seconds)] += 1  # as it does itself, but in C
        histogram.sum += seconds


def _read(records: Sequence[Record | None]) -> str | None:
    """``None`` where all of them were near."""
    came: str | None = None
    for record in records:
        if record is None:
            return "miss"
        if record.tier != "near":
            came = "hit"
    return came


def _written(outcomes: Sequence[object]) -> str | None:
    for outcome in outcomes:
        if isinstance(outcome, CacheError):
            return _failure(outcome)
    return "ok"


def _failure(error: Exception) -> str | None:
    """``None`` where no call was made."""
    if isinstance(error, BackendSuspended):
        return None
    if isinstance(error, BackendUnavailable):
        return "unavailable"
    return "unknown" if isinstance(error, OutcomeUnknown) else "error"


_OUTCOMES: Final[dict[str, Callable[[Any], str | None]]] = {
    "peek": _read,
    "fill": _written,
    "restore": _written,
}
"""What the answer of an operation comes to; one that is not here is done when it has answered."""
