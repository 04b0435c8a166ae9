"""Latencies of a backend: the thin edge that looks at the clock round each call.

It stands before a backend whose calls wait, and its circuit breaker. A backend in process has none:
its calls cost little more than a look at the clock. What the breaker refused, and reads that the
near tier answered, are left out: a histogram of these would say nothing, and they are counted
anyway. While metrics are off a call is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, ParamSpec, TypeVar

from clusterdb.monitoring.timings import Timings

from .errors import CacheError
from .forwarding import ForwardingBackend
from .protocols import Backend, BackendInfo, Change, Written
from .timer import Timer
from .types import Record

__all__ = ["TimedBackend"]

P = ParamSpec("P")
R = TypeVar("R")


class TimedBackend(ForwardingBackend):
    """``backend``, whose calls are observed. Batches are not: how long one takes is up to who asked
    for it.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self._timer: Timer | None = None

    def observe_by(self, timings: Timings | None) -> None:
        """Observe calls by ``timings`` from now on, or not at all."""
        self._timer = None if timings is None else Timer(self._backend, timings)

    def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> Coroutine[Any, Any, list[Record | None]]:
        if self._timer is not None:
            return self._timer.read(region, keys, stale, consistent, brief)
        return self._backend.read(region, keys, stale=stale, consistent=consistent, brief=brief)

    def write(
        self, region: str, changes: Sequence[Change]
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        return (self._timer or self._backend).write(region, changes)

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
        if self._timer is None:
            return call(*arguments, **options)
        return self._timer.call(operation, region, partial(call, *arguments, **options))

    def describe(self) -> Coroutine[Any, Any, BackendInfo]:
        return self._backend.describe()
