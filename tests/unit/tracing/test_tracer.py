"""Who gets a span, in whose trace, and what stands in it."""

import pytest
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from tests.tracing import Traced

from clusterdb.tracing import Tracer, TracingConfig


@pytest.fixture
def traced() -> Traced:
    return Traced()


def made(traced: Traced, draws: list[float] | None = None, **settings) -> Tracer:
    drawn = iter(draws or [])
    config = TracingConfig(**settings)
    return Tracer(config, provider=traced.provider, draw=lambda: next(drawn, 0.0))


def test_a_span_is_noted_after_the_fact(traced):
    tracer = made(traced, service_name="sessions")
    began = tracer.now()
    tracer.note("read main", began, {"cache.region": "main"}, kind="client")

    [span] = traced.spans
    assert span.name == "read main"
    assert span.kind is SpanKind.CLIENT
    assert span.attributes == {"cache.region": "main", "service.peer.name": "sessions"}
    assert span.start_time == began <= (span.end_time or 0)
    assert span.status.status_code is StatusCode.UNSET


def test_what_happens_inside_a_span_is_a_part_of_it(traced):
    tracer = made(traced)
    with tracer.span("load main", {}) as linked:
        tracer.note("claim main", tracer.now(), {}, kind="client")

    outer, inner = traced.named("load main"), traced.named("claim main")
    assert inner.parent == outer.context == linked
    assert outer.kind is SpanKind.INTERNAL
    assert outer.parent is None


def test_a_span_joins_the_trace_of_its_caller(traced):
    tracer = made(traced)
    with traced.provider.get_tracer("shop").start_as_current_span("request") as request:
        with tracer.span("load main", {}):
            inside = get_current_span().get_span_context()
        tracer.note("read main", tracer.now(), {})

    assert traced.named("load main").parent == request.get_span_context()
    assert traced.named("load main").context == inside
    assert traced.named("read main").parent == request.get_span_context()


def test_without_propagation_traces_are_our_own(traced):
    tracer = made(traced, context_propagation=False)
    with traced.provider.get_tracer("shop").start_as_current_span("request") as request:
        with tracer.span("load main", {}) as ours:
            assert get_current_span() is request, "a loader's own spans are not drawn in"
            tracer.note("claim main", tracer.now(), {})
        tracer.note("read main", tracer.now(), {})

    assert traced.named("load main").parent is None
    assert traced.named("claim main").parent == ours
    assert traced.named("read main").parent is None


@pytest.mark.parametrize(("rate", "share"), [(0.0, 0), (0.3, 3), (1.0, 10)])
def test_a_share_of_the_operations_is_traced(traced, rate, share):
    tracer = made(traced, [number / 10 for number in range(10)], sampling_rate=rate)
    for _ in range(10):
        tracer.note("read main", tracer.now(), {})

    assert len(traced.spans) == share


def test_a_trace_is_there_as_a_whole_or_not_at_all(traced):
    """Else the calls inside of a load that gets no span would draw again, and stand alone."""
    tracer = made(traced, [0.9], sampling_rate=0.5)  # later draws would want a span
    with tracer.span("load main", {}) as linked:
        tracer.note("claim main", tracer.now(), {})
        with tracer.span("loader main", {}):
            assert not get_current_span().is_recording()

    assert linked is None
    assert traced.spans == []
    tracer.note("read main", tracer.now(), {})
    assert traced.names == ["read main"], "the decision ends with the block"


def test_a_caller_that_is_traced_decides(traced):
    tracer = made(traced, [0.9, 0.9], sampling_rate=0.5)
    with traced.provider.get_tracer("shop").start_as_current_span("request"):
        tracer.note("read main", tracer.now(), {})

    assert "read main" in traced.names


def test_what_nobody_waits_for_begins_a_trace_of_its_own(traced):
    tracer = made(traced)
    shop = traced.provider.get_tracer("shop")
    with shop.start_as_current_span("request") as request, tracer.span("load", {}, apart=True):
        tracer.note("claim", tracer.now(), {})

    load = traced.named("load")
    assert load.parent is None
    assert [link.context for link in load.links] == [request.get_span_context()]
    assert traced.named("claim").parent == load.context


@pytest.mark.parametrize("propagated", [True, False])
def test_an_error_is_recorded_by_its_type_alone(traced, propagated):
    tracer = made(traced, context_propagation=propagated)
    with pytest.raises(ValueError, match="s3cret"), tracer.span("load main", {}):
        raise ValueError("the password s3cret of user:5")

    [span] = traced.spans
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert [event.name for event in span.events] == ["exception"]
    assert "s3cret" not in traced.text()
    assert "user:5" not in traced.text()
