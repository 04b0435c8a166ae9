"""What of a cache is traced, and what stands in its spans.

``Tracing`` is the switch of one cache, shared by what makes spans: the calls of a backend outside
of this process (:class:`TracedBackend`), loads, their loaders, and the callers that wait for a load
of another. A hit of the memory backend or of the near tier makes no span, and while tracing is
off nothing of OpenTelemetry is imported.

Keys, values and messages of errors stand in no span: numbers, names of regions, types of errors.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from .errors import CacheError
from .forwarding import ForwardingBackend
from .protocols import Backend
from .types import Record

if TYPE_CHECKING:
    from clusterdb.tracing.tracer import Linked, Tracer

__all__ = ["TracedBackend", "Tracing"]

P = ParamSpec("P")
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


class TracedBackend(ForwardingBackend):
    """``backend``, with a span for each call that leaves the process, made by ``tracing``."""

    def __init__(self, backend: Backend, tracing: Tracing) -> None:
        super().__init__(backend)
        self._tracing = tracing

    async def _call(
        self,
        operation: str,
        region: str,
        count: int,
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        began, about = time.time_ns(), region or None
        try:
            answer = await call(*arguments, **options)
        except BaseException as error:
            kind = type(error).__qualname__
            self._tracing.called(operation, about, count, began, {}, kind)
            raise
        if not _is_near(answer):
            failed, outcome = _outcome(operation, answer)
            self._tracing.called(operation, about, count, began, outcome, failed)
        return answer

    def _batches(
        self, operation: str, region: str, batches: AsyncGenerator[list[R], None]
    ) -> AsyncGenerator[list[R], None]:
        return self._one_by_one(operation, region, batches)


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
