"""Traces of a cache on a real server, and their way to a collector over HTTP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from tests.redis.backends import flush
from tests.redis.servers import Deployment, Server
from tests.tracing import Traced, traced

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheConfig,
    PoolConfig,
    Redis,
    TracingConfig,
)

__all__ = ["traced"]

ON = TracingConfig(service_name="sessions")


class Collector:
    """Takes what an exporter sends over OTLP, as a collector does."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.stop()


def config_of(url: str, **settings) -> CacheConfig:
    pool = PoolConfig(timeout=2, connect_timeout=1)
    backend = Redis(urls=[url], pool=pool, **settings)
    return CacheConfig(name="shop", backend=backend, tracing=ON)


async def test_a_read_of_the_server_is_a_database_call(traced: Traced, standalone: Deployment):
    flush(standalone)
    async with Cache(config_of(standalone.urls[0])) as cache:
        await cache.set("k", 1)
        traced.forget()
        assert await cache.get("k") == 1
        [read] = traced.spans
        assert (read.name, read.kind) == ("read default", SpanKind.CLIENT)
        assert read.attributes == {
            "db.system.name": "redis",
            "db.namespace": "0",
            "db.operation.name": "read",
            "server.address": "127.0.0.1",
            "server.port": standalone.servers[0].port,
            "service.peer.name": "sessions",
            "cache.name": "shop",
            "cache.region": "default",
            "cache.hits": 1,
            "cache.misses": 0,
        }
        async with asyncio.timeout(5):  # until the server is known to tell of changes
            while (await cache.lookup("k")).tier != "near":  # type: ignore[union-attr] # noqa: ASYNC110
                await asyncio.sleep(0.01)
        traced.forget()
        for _ in range(5):
            assert await cache.get("k") == 1
        assert traced.names == [], "near hits"


async def test_a_load_holds_its_calls_of_the_server(traced: Traced, standalone: Deployment):
    flush(standalone)
    async with Cache(config_of(standalone.urls[0])) as cache:
        traced.forget()
        with traced.provider.get_tracer("shop").start_as_current_span("request"):
            assert await cache.get_or_load("k", lambda: 5) == 5

    load = traced.named("load default")
    assert load.parent == traced.named("request").context
    parts = [span.name for span in traced.spans if span.parent == load.context]
    assert [name for name in parts if name != "release default"] == [
        "claim default",
        "loader default",
        "fill default",
    ]


async def test_a_lost_server_is_an_error_without_its_password(traced: Traced, server: Server):
    config = config_of(f"redis://127.0.0.1:{server.port}", username="u", password="s3cret")
    server.cli("ACL", "SETUSER", "u", "on", ">s3cret", "~*", "&*", "+@all")
    async with Cache(config) as cache:
        await cache.set("user:5", "value-of-5")
        traced.forget()
        server.kill()
        with pytest.raises(BackendUnavailable):
            await cache.get("user:6")

    read = traced.named("read default")
    assert read.status.status_code is StatusCode.ERROR
    assert (read.attributes or {})["error.type"] == "BackendUnavailable"
    for secret in ("s3cret", "user:", "value-of"):
        assert secret not in traced.text()


async def test_spans_reach_a_collector_over_http(
    traced: Traced, collector: Collector, standalone: Deployment
):
    flush(standalone)
    exporter = OTLPSpanExporter(endpoint=collector.url, timeout=5)
    traced.provider.add_span_processor(BatchSpanProcessor(exporter))
    async with Cache(config_of(standalone.urls[0])) as cache:
        assert await cache.get_or_load("k", lambda: 5) == 5
    traced.provider.shutdown()

    groups = [group for request in collector.requests for group in request.resource_spans]
    resources = {
        attribute.value.string_value
        for group in groups
        for attribute in group.resource.attributes
        if attribute.key == "service.name"
    }
    scopes = [scope for group in groups for scope in group.scope_spans]
    assert resources == {"shop"}
    assert {scope.scope.name for scope in scopes} == {"clusterdb.cache"}
    spans = {span.name: span for scope in scopes for span in scope.spans}
    load, claim = spans["load default"], spans["claim default"]
    assert claim.parent_span_id == load.span_id
    assert claim.trace_id == load.trace_id
    named = {each.key: each.value.string_value for each in claim.attributes}
    assert named["db.system.name"] == "redis"
    assert named["service.peer.name"] == "sessions"
