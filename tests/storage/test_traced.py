"""What a database behind a cache is asked becomes spans, beside the calls of the cache itself."""

from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from tests.tracing import Traced, traced

from clusterdb.cache import (
    Cache,
    CacheCoherence,
    CacheConfig,
    Disk,
    SQLite,
    TracingConfig,
    WriteThrough,
)

__all__ = ["traced"]


@pytest.mark.parametrize("on_disk", [False, True])
async def test_reads_and_writes_of_a_storage_are_traced(traced: Traced, tmp_path, on_disk: bool):
    storage = SQLite(path=str(tmp_path / "shop.db"), create=True)
    coherence = CacheCoherence(mode=WriteThrough(backend=storage))
    more: Any = {"backend": Disk(path=str(tmp_path / "cache.db"))} if on_disk else {}
    config = CacheConfig(name="shop", coherence=coherence, tracing=TracingConfig(), **more)
    async with Cache(config) as cache:
        await cache.set("secret-key", "secret-value")
        await cache.invalidate("secret-key")
        traced.forget()
        with traced.provider.get_tracer("shop").start_as_current_span("request") as request:
            assert await cache.get("secret-key") == "secret-value"
            await cache.set("secret-key", "secret-again")

    stored = [
        span
        for span in traced.spans
        if (span.attributes or {}).get("db.system.name") == "sqlite"
        and "db.namespace" not in (span.attributes or {})
    ]
    assert [span.name for span in stored] == ["read default", "write default"]
    for span in stored:
        assert span.kind is SpanKind.CLIENT
        assert span.context is not None
        assert span.context.trace_id == request.get_span_context().trace_id
        assert (span.attributes or {})["cache.name"] == "shop"
    assert (stored[0].attributes or {})["db.response.returned_rows"] == 1
    of_file = [span for span in traced.spans if "db.namespace" in (span.attributes or {})]
    assert bool(of_file) is on_disk
    assert "secret" not in traced.text()
