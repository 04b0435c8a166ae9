"""Latencies of a backend: the thin edge that looks at the clock round each call.

It stands before a backend whose calls wait, and its circuit breaker. A backend in process has none:
its calls cost little more than a look at the clock. What the breaker refused, and reads that the
near tier answered, are left out: a histogram of these would say nothing, and they are counted
anyway. While metrics are off a call is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any, Final, ParamSpec, TypeVar

from clusterdb.monitoring.timings import Timings

from .errors import BackendSuspended, BackendUnavailable, CacheError, OutcomeUnknown
from .forwarding import ForwardingBackend
from .protocols import Backend, BackendInfo
from .types import Record

__all__ = ["TimedBackend"]

P = ParamSpec("P")
R = TypeVar("R")


class TimedBackend(ForwardingBackend):
    """``backend``, whose calls are observed by ``timings`` while there are some. Batches are not:
    how long one takes is up to who asked for it.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.timings: Timings | None = None

    def _call(
        self,
        operation: str,
        region: str,
        count: int,
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        del count
        if self.timings is None:
            return call(*arguments, **options)
        return self._timed(self.timings, operation, region, call, *arguments, **options)

    async def _timed(
        self,
        timings: Timings,
        operation: str,
        region: str,
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """The call is made in here: of one that is cancelled before it began nothing is left."""
        began = perf_counter()
        came: str | None = "cancelled"
        try:
            answer = await call(*arguments, **options)
            came = _OUTCOMES.get(operation, _done)(answer)
            return answer
        except CacheError as error:
            came = _failure(error)
            raise
        except Exception:
            came = "error"
            raise
        finally:
            if came is not None:
                seconds = perf_counter() - began
                timings.observe((self._backend.kind, operation, region, came), seconds)

    def describe(self) -> Coroutine[Any, Any, BackendInfo]:
        return self._backend.describe()


def _done(_: object) -> str:
    return "ok"


def _read(records: Sequence[Record | None]) -> str | None:
    """``None`` where all of them were near."""
    if None in records:
        return "miss"
    for record in records:
        if record is not None and record.tier != "near":
            return "hit"
    return None


def _written(outcomes: Sequence[object]) -> str | None:
    failed = [outcome for outcome in outcomes if isinstance(outcome, CacheError)]
    return _failure(failed[0]) if failed else "ok"


def _failure(error: CacheError) -> str | None:
    """``None`` where no call was made."""
    if isinstance(error, BackendSuspended):
        return None
    if isinstance(error, BackendUnavailable):
        return "unavailable"
    return "unknown" if isinstance(error, OutcomeUnknown) else "error"


_OUTCOMES: Final[dict[str, Callable[[Any], str | None]]] = {
    "read": _read,
    "peek": _read,
    "write": _written,
    "fill": _written,
    "restore": _written,
}
"""What the answer of an operation comes to; one that is not here is done when it has answered."""
