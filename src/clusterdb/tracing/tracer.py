"""Spans over OpenTelemetry's API: who gets one, in whose trace, and what may stand in it.

The API does nothing by itself. Where spans go is decided by the SDK that the program sets up, and
without one they cost next to nothing and go nowhere.

**Sampling.** Where a span is current, its decision holds. Elsewhere ``sampling_rate`` of the
operations get a span. An operation that gets none hands that decision down, as a span that records
nothing, so that a trace is there as a whole or not at all.

**After the fact.** A call whose worth is known only when it ended (a read that never left the
process needs no span) is noted then, with the time at which it began: see :meth:`Tracer.note`.

**Errors** are recorded by their type alone. Their messages name keys and hold what a loader or a
server said, and a trace is read by more people than a log is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
)

from .config import TracingConfig

__all__ = ["Attributes", "Kind", "Linked", "Tracer"]

Attributes: TypeAlias = Mapping[str, str | int | float | bool]
"""What stands in a span."""

Kind: TypeAlias = Literal["internal", "client"]
"""``client``: a call of something outside of this process."""

Linked: TypeAlias = SpanContext
"""What another span is linked to one by."""

_SCOPE: Final = "clusterdb.cache"
_KINDS: Final = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
_OURS: Final = contexts.create_key("clusterdb-span")


class Tracer:
    """Makes spans as ``config`` says, by the tracer provider of the program, or by ``provider``.

    ``draw`` gives a number from 0 to 1 for each operation that no span decides on.
    """

    def __init__(
        self,
        config: TracingConfig | None = None,
        *,
        provider: TracerProvider | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.config = TracingConfig() if config is None else config
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=provider)
        self._draw = draw

    @staticmethod
    def now() -> int:
        """The time that spans have: nanoseconds since the Unix epoch."""
        return time.time_ns()

    def note(
        self,
        name: str,
        began: int,
        attributes: Attributes,
        *,
        kind: Kind = "internal",
        error: str | None = None,
        links: Sequence[Linked] = (),
    ) -> None:
        """A span of what began at ``began`` and has just ended; ``error`` is the type of what went
        wrong. Is nothing where the operation gets no span.
        """
        context = contexts.get_current()
        if self._wanted(self._parent(context)):
            span = self._start(name, context, attributes, kind, links, began)
            _fail(span, error)
            span.end()

    @contextmanager
    def span(
        self, name: str, attributes: Attributes, *, apart: bool = False
    ) -> Iterator[Linked | None]:
        """A span round a block, of which what happens inside becomes a part. Gives what to link it
        by, or ``None`` where it is not recorded.

        ``apart``: nobody waits for it, so it begins a trace of its own, with a link to the span
        that it was begun in.
        """
        context = contexts.get_current()
        parent = self._parent(context)
        if not self._wanted(parent):
            with self._inside(
                context, NonRecordingSpan(parent if parent.is_valid else _unwanted())
            ):
                yield None
            return
        links = [parent] if apart and parent.is_valid else []
        span = self._start(name, Context() if apart else context, attributes, "internal", links)
        try:
            with self._inside(context, span):
                yield span.get_span_context()
        except BaseException as error:
            _fail(span, type(error).__qualname__)
            raise
        finally:
            span.end()

    # -- inside

    def _parent(self, context: Context) -> SpanContext:
        """The span that an operation would be a part of; an invalid one is none."""
        if self.config.context_propagation:
            return trace.get_current_span(context).get_span_context()
        ours = contexts.get_value(_OURS, context)
        return ours.get_span_context() if isinstance(ours, Span) else trace.INVALID_SPAN_CONTEXT

    def _wanted(self, parent: SpanContext) -> bool:
        if parent.is_valid:
            return parent.trace_flags.sampled
        return self._draw() < self.config.sampling_rate

    def _start(
        self,
        name: str,
        context: Context,
        attributes: Attributes,
        kind: Kind,
        links: Sequence[Linked],
        began: int | None = None,
    ) -> Span:
        if not self.config.context_propagation:
            ours = contexts.get_value(_OURS, context)
            context = (
                trace.set_span_in_context(ours, Context()) if isinstance(ours, Span) else Context()
            )
        if kind == "client":
            attributes = {**attributes, "service.peer.name": self.config.service_name}
        return self._tracer.start_span(
            name,
            context,
            _KINDS[kind],
            attributes,
            [Link(each) for each in links],
            began,
            record_exception=False,
            set_status_on_exception=False,
        )

    @contextmanager
    def _inside(self, context: Context, span: Span) -> Iterator[None]:
        """``span`` is what the block is a part of, for us, and where we propagate, for others."""
        if self.config.context_propagation:
            token = contexts.attach(trace.set_span_in_context(span, context))
        else:
            token = contexts.attach(contexts.set_value(_OURS, span, context))
        try:
            yield
        finally:
            contexts.detach(token)


def _fail(span: Span, error: str | None) -> None:
    """Say what went wrong, by its type."""
    if error is not None:
        span.add_event("exception", {"exception.type": error})
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR))


def _unwanted() -> SpanContext:
    """A trace that is not recorded."""
    bits = random.getrandbits
    return SpanContext(bits(128) | 1, bits(64) | 1, is_remote=False, trace_flags=trace.TraceFlags())
