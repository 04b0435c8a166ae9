"""What of a cache is traced, and what stands in its spans.

``Tracing`` is the switch of one cache, shared by what makes spans: the calls of a backend outside
of this process (:class:`TracedBackend`), loads, their loaders, and the callers that wait for a load
of another. A hit of the memory backend or of the near tier makes no span, and while tracing is
off nothing of OpenTelemetry is imported.

Keys, values and messages of errors stand in no span: numbers, names of regions, types of errors.
"""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from .claims import Claim
from .errors import CacheError
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

if TYPE_CHECKING:
    from clusterdb.tracing.tracer import Linked, Tracer

__all__ = ["TracedBackend", "Tracing"]

R = TypeVar("R")

_READS: Final = ("read", "peek", "claim")


class Tracing:
    """The switch of the cache called ``name``: ``tracer`` is ``None`` while tracing is off.
    ``database`` says in every call of the backend what is called, by OpenTelemetry's names.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.tracer: Tracer | None = None
        self.database: Mapping[str, str | int] = {}

    def called(
        self,
        operation: str,
        region: str | None,
        count: int,
        began: int,
        outcome: Mapping[str, int],
        error: str | None = None,
        database: Mapping[str, str | int] | None = None,
    ) -> None:
        """A call about ``count`` keys has ended, of the backend unless ``database`` says of what.
        ``region`` is ``None`` for one that is about the whole cache.
        """
        if self.tracer is None:
            return
        about = self.database if database is None else database
        attributes = {**about, **self._about(region), "db.operation.name": operation}
        if count > 1:  # the conventions want no batch of one
            attributes["db.operation.batch.size"] = count
        name = operation if region is None else f"{operation} {region}"
        attributes |= outcome
        self.tracer.note(name, began, attributes, kind="client", error=error)

    @contextmanager
    def load(self, region: str, keys: int, *, behind: bool) -> Iterator[Linked | None]:
        """Round one load, whoever waits for it; ``behind``: begun behind its caller's back."""
        if self.tracer is None:
            yield None
            return
        attributes = {**self._about(region), "cache.keys": keys, "cache.load.behind": behind}
        with self.tracer.span(f"load {region}", attributes, apart=behind) as span:
            yield span

    @contextmanager
    def loader(self, region: str, keys: int) -> Iterator[None]:
        """Round one call of a loader."""
        if self.tracer is None:
            yield
            return
        attributes = {**self._about(region), "cache.keys": keys}
        with self.tracer.span(f"loader {region}", attributes):
            yield

    def joined(self, region: str, loads: Iterable[Linked | None], began: int, keys: int) -> None:
        """A caller has waited, since ``began``, for ``loads`` that others had begun."""
        if self.tracer is not None:
            links = [load for load in loads if load is not None]
            attributes = {**self._about(region), "cache.keys": keys}
            self.tracer.note(f"wait {region}", began, attributes, links=links)

    def _about(self, region: str | None) -> dict[str, str | int]:
        about: dict[str, str | int] = {"cache.name": self._name}
        return about if region is None else about | {"cache.region": region}


class TracedBackend:
    """``backend``, with a span for each call that leaves the process, made by ``tracing``."""

    def __init__(self, backend: Backend, tracing: Tracing) -> None:
        self._backend = backend
        self._tracing = tracing

    async def _call(
        self,
        operation: str,
        region: str | None,
        count: int,
        call: Coroutine[Any, Any, R],
    ) -> R:
        began = time.time_ns()
        try:
            answer = await call
        except BaseException as error:
            kind = type(error).__qualname__
            self._tracing.called(operation, region, count, began, {}, kind)
            raise
        if not _is_near(answer):
            failed, outcome = _outcome(operation, answer)
            self._tracing.called(operation, region, count, began, outcome, failed)
        return answer

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities

    async def open(self) -> None:
        await self._call("open", None, 0, self._backend.open())

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

    def order(self, versions: Iterator[Version]) -> bool:
        return self._backend.order(versions)

    def follow(self, follower: Follower | None) -> None:
        self._backend.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._backend.fork(moment)

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        call = self._backend.read(region, keys, stale=stale, consistent=consistent, brief=brief)
        return await self._call("read", region, len(keys), call)

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        return await self._call(
            "peek", region, len(keys), self._backend.peek(region, keys, stale=stale)
        )

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self._backend.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self._backend.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._backend.drop_near(region, keys)

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        return await self._call("write", region, len(changes), self._backend.write(region, changes))

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        call = self._backend.commit(region, checks, changes)
        return await self._call("commit", region, len(changes), call)

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        call = self._backend.claim(region, keys, tags, lease)
        return await self._call("claim", region, len(keys), call)

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        call = self._backend.fence(region, keys, lease)
        return await self._call("fence", region, len(keys), call)

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        call = self._backend.extend(region, claims, tags)
        return await self._call("extend", region, len(claims), call)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        return await self._call("fill", region, len(fills), self._backend.fill(region, fills))

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        return await self._call(
            "release", region, len(claims), self._backend.release(region, claims)
        )

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        call = self._backend.invalidate_tags(tags)
        return await self._call("invalidate_tags", None, len(tags), call)

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        async with aclosing(self._backend.scan(region, glob, batch_size, dead=dead)) as batches:
            while True:
                batch = await self._call("scan", region, 0, _next(batches))
                if batch is None:
                    return
                yield batch

    async def clear(self, regions: Sequence[str]) -> int:
        region = regions[0] if len(regions) == 1 else None
        return await self._call("clear", region, 0, self._backend.clear(regions))

    async def describe(self) -> BackendInfo:
        return await self._call("describe", None, 0, self._backend.describe())


async def _next(batches: AsyncGenerator[list[str], None]) -> list[str] | None:
    """The next batch; the end is no error of a call."""
    return await anext(batches, None)


def _is_near(answer: object) -> bool:
    """Whether everything was answered without leaving the process."""
    if not isinstance(answer, list) or not answer:
        return False
    return all(isinstance(item, Record) and item.tier == "near" for item in answer)


def _outcome(operation: str, answer: object) -> tuple[str | None, dict[str, int]]:
    """The type of the first error in the items of an answer, and what it found."""
    if not isinstance(answer, list):
        return None, {}
    outcome = {}
    if operation in _READS:
        hits = sum([isinstance(item, Record) for item in answer])
        outcome = {"cache.hits": hits, "cache.misses": len(answer) - hits}
    errors = [item for item in answer if isinstance(item, CacheError)]
    if errors:
        outcome["cache.failed"] = len(errors)
    return (type(errors[0]).__qualname__ if errors else None), outcome
