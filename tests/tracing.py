"""What was traced: a provider of OpenTelemetry's SDK that keeps its spans."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

__all__ = ["Traced", "traced"]


class Traced:
    """What came out so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(resource=Resource({"service.name": "shop"}))
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def named(self, name: str) -> ReadableSpan:
        [found] = [span for span in self.spans if span.name == name]
        return found

    def forget(self) -> None:
        self._exporter.clear()

    def text(self) -> str:
        """Everything that an exporter is given."""
        return "".join([span.to_json() for span in self.spans])


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    """The tracer provider of this program, for one test."""
    found = Traced()
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", found.provider)
    return found
