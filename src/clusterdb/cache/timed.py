"""Latencies of a backend: the thin edge that looks at the clock round each call.

It stands before a backend whose calls wait, and its circuit breaker. A backend in process has none:
its calls cost little more than a look at the clock. What the breaker refused, and reads that the
near tier answered, are left out: a histogram of these would say nothing, and they are counted
anyway. While metrics are off a call is passed on as it is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any, Literal, ParamSpec, TypeVar

from clusterdb.monitoring.timings import Timings

from .claims import Claim
from .errors import BackendSuspended, BackendUnavailable, CacheError, OutcomeUnknown
from .protocols import (
    Backend,
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Follower,
    Observer,
    Put,
    Written,
)
from .settings import RegionSettings
from .table import Table
from .types import Record, Version

__all__ = ["TimedBackend"]

P = ParamSpec("P")
R = TypeVar("R")


class TimedBackend:
    """``backend``, whose calls are observed by ``timings`` while there are some."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.timings: Timings | None = None

    def _call(
        self,
        operation: str,
        region: str,
        outcome: Callable[[R], str | None],
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> Coroutine[Any, Any, R]:
        if self.timings is None:
            return call(*arguments, **options)
        return self._timed(self.timings, operation, region, outcome, call, *arguments, **options)

    async def _timed(
        self,
        timings: Timings,
        operation: str,
        region: str,
        outcome: Callable[[R], str | None],
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """The call is made in here: of one that is cancelled before it began nothing is left."""
        began = perf_counter()
        came: str | None = "cancelled"
        try:
            answer = await call(*arguments, **options)
            came = outcome(answer)
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

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities

    async def open(self) -> None:
        await self._call("open", "", _done, self._backend.open)

    async def aclose(self) -> None:
        await self._backend.aclose()

    @property
    def inline(self) -> bool:
        return self._backend.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._backend.configure(regions)

    def table(self, region: str) -> Table | None:
        return self._backend.table(region)

    def observe(self, observer: Observer | None) -> None:
        self._backend.observe(observer)

    def follow(self, follower: Follower | None) -> None:
        self._backend.follow(follower)

    def order(self, versions: Iterator[Version]) -> bool:
        return self._backend.order(versions)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._backend.fork(moment)

    def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> Coroutine[Any, Any, list[Record | None]]:
        read = self._backend.read
        options = {"stale": stale, "consistent": consistent, "brief": brief}
        return self._call("read", region, _read, read, region, keys, **options)

    def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> Coroutine[Any, Any, list[Record | None]]:
        return self._call("peek", region, _read, self._backend.peek, region, keys, stale=stale)

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self._backend.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self._backend.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._backend.drop_near(region, keys)

    def write(
        self, region: str, changes: Sequence[Change]
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        return self._call("write", region, _written, self._backend.write, region, changes)

    def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Coroutine[Any, Any, Committed | None]:
        return self._call("commit", region, _done, self._backend.commit, region, checks, changes)

    def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> Coroutine[Any, Any, list[Record | Claim | None]]:
        return self._call("claim", region, _done, self._backend.claim, region, keys, tags, lease)

    def fence(
        self, region: str, keys: Sequence[str], lease: float
    ) -> Coroutine[Any, Any, list[Claim]]:
        return self._call("fence", region, _done, self._backend.fence, region, keys, lease)

    def extend(
        self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]
    ) -> Coroutine[Any, Any, None]:
        return self._call("extend", region, _done, self._backend.extend, region, claims, tags)

    def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        return self._call("fill", region, _written, self._backend.fill, region, fills)

    def release(self, region: str, claims: Sequence[Claim]) -> Coroutine[Any, Any, None]:
        return self._call("release", region, _done, self._backend.release, region, claims)

    def invalidate_tags(self, tags: Sequence[str]) -> Coroutine[Any, Any, int]:
        return self._call("invalidate_tags", "", _done, self._backend.invalidate_tags, tags)

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        async with aclosing(self._backend.scan(region, glob, batch_size, dead=dead)) as batches:
            async for batch in batches:
                yield batch

    def clear(self, regions: Sequence[str]) -> Coroutine[Any, Any, int]:
        return self._call("clear", "", _done, self._backend.clear, regions)

    async def describe(self) -> BackendInfo:
        return await self._backend.describe()


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
