"""What a cache traces: loads, loaders and waits; no hit, and nothing at all while it is off."""

import asyncio
import subprocess
import sys

import pytest
from opentelemetry.trace import StatusCode, get_current_span
from tests.tracing import Traced, traced

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    Disk,
    LoadConfig,
    MissingExtra,
    MonitoringConfig,
    TracingConfig,
)
from clusterdb.cache.testing import ManualClock

__all__ = ["traced"]

ON = TracingConfig(service_name="cache-service")


async def test_a_load_is_traced_with_its_loader(traced: Traced):
    seen = []

    async def loader() -> int:
        seen.append(get_current_span().get_span_context())
        return 5

    async with Cache(CacheConfig(name="shop", tracing=ON)) as cache:
        assert await cache.get_or_load("user:5", loader) == 5

    load, called = traced.named("load default"), traced.named("loader default")
    assert called.parent == load.context
    assert seen == [called.context], "the loader's own spans are parts of its span"
    assert load.attributes == {
        "cache.name": "shop",
        "cache.region": "default",
        "cache.keys": 1,
        "cache.load.behind": False,
    }
    assert "user:5" not in traced.text()


def test_a_call_without_await_joins_the_trace_of_its_thread(traced: Traced, tmp_path):
    config = CacheConfig(backend=Disk(path=str(tmp_path / "cache.db")), tracing=ON)
    with Cache(config).sync as cache:
        traced.forget()
        with traced.provider.get_tracer("shop").start_as_current_span("request") as request:
            assert cache.get("none") is None
            assert cache.get_or_load("k", lambda: 5) == 5

    ours = [span for span in traced.spans if span.name != "request"]
    assert {"read default", "load default", "loader default"} <= {span.name for span in ours}
    traces = {span.context.trace_id for span in ours if span.context is not None}
    assert traces == {request.get_span_context().trace_id}


async def test_hits_and_writes_of_the_memory_backend_make_no_span(traced: Traced):
    async with Cache(CacheConfig(tracing=ON)) as cache:
        await cache.set("a", 1)
        assert await cache.get("a") == 1
        assert await cache.get_or_load("a", lambda: 2) == 1
        assert await cache.get_many(["a", "none"]) == {"a": 1}

    assert traced.names == []


async def test_who_waits_for_the_load_of_another_is_linked_to_it(traced: Traced):
    begun, go = asyncio.Event(), asyncio.Event()

    async def loader() -> int:
        begun.set()
        await go.wait()
        return 5

    async def caller(name: str) -> None:
        with traced.provider.get_tracer("shop").start_as_current_span(name):
            await cache.get_or_load("k", loader)

    async with Cache(CacheConfig(tracing=ON)) as cache:
        first = asyncio.create_task(caller("first"))
        await begun.wait()
        others = [asyncio.create_task(caller(f"other {number}")) for number in range(2)]
        while cache.access.state.loads.joined_loads < 2:  # noqa: ASYNC110
            await asyncio.sleep(0)
        go.set()
        await asyncio.gather(first, *others)

    load = traced.named("load default")
    assert load.parent == traced.named("first").context
    waits = [span for span in traced.spans if span.name == "wait default"]
    assert [[link.context for link in wait.links] for wait in waits] == [[load.context]] * 2
    parents = {wait.parent.span_id for wait in waits if wait.parent is not None}
    contexts = [traced.named(f"other {number}").context for number in range(2)]
    assert parents == {context.span_id for context in contexts if context is not None}


async def test_a_load_behind_its_caller_is_a_trace_of_its_own(traced: Traced):
    clock = ManualClock()
    loads = LoadConfig(stale_while_revalidate="1h")
    config = CacheConfig(tracing=ON, regions=[CacheRegion("r", loads=loads)])
    async with Cache(config, clock=clock) as cache:
        region = cache.region("r")
        await region.set("k", 1, ttl=1)
        clock.advance(2)
        with traced.provider.get_tracer("shop").start_as_current_span("request") as request:
            assert await region.get_or_load("k", lambda: 2, ttl=60) == 1
        async with asyncio.timeout(5):
            while await region.get("k") != 2:  # noqa: ASYNC110
                await asyncio.sleep(0)

    load = traced.named("load r")
    assert load.parent is None
    assert [link.context for link in load.links] == [request.get_span_context()]
    assert (load.attributes or {})["cache.load.behind"] is True


async def test_a_failed_loader_says_what_kind_of_error_it_was(traced: Traced):
    def loader() -> int:
        raise ValueError("the value s3cret")

    async with Cache(CacheConfig(tracing=ON)) as cache:
        with pytest.raises(ValueError, match="s3cret"):
            await cache.get_or_load("user:5", loader)

    for name in ("load default", "loader default"):
        span = traced.named(name)
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "ValueError"
    assert "s3cret" not in traced.text()


async def test_calls_of_a_file_are_traced_and_near_hits_are_not(traced: Traced, tmp_path):
    backend = Disk(path=str(tmp_path / "cache.db"))
    async with Cache(CacheConfig(name="shop", backend=backend, tracing=ON)) as cache:
        traced.forget()
        await cache.set("secret-key", "secret-value", tags=("secret-tag",))
        assert await cache.get("secret-key") == "secret-value"
        assert traced.names == ["write default", "read default"]
        read = traced.named("read default")
        assert read.attributes == {
            "db.system.name": "sqlite",
            "db.namespace": "cache.db",
            "db.operation.name": "read",
            "service.peer.name": "cache-service",
            "cache.name": "shop",
            "cache.region": "default",
            "cache.hits": 1,
            "cache.misses": 0,
        }
        traced.forget()
        for _ in range(3):
            assert await cache.get("secret-key") == "secret-value"
            assert await cache.get_many(["secret-key"]) == {"secret-key": "secret-value"}
        assert traced.names == []
        await cache.get_many(["secret-key", "none"])
        assert (traced.named("read default").attributes or {})["db.operation.batch.size"] == 2
        assert await cache.exists("none") is False
        assert [key async for key in cache.scan()] == ["secret-key"]
        await cache.invalidate_tag("secret-tag")
        await cache.clear()
        assert {"peek default", "scan default", "invalidate_tags", "clear default"} <= set(
            traced.names
        )
    assert "secret" not in traced.text()


async def test_tracing_is_switched_while_the_cache_runs(traced: Traced, tmp_path):
    async with Cache(CacheConfig(backend=Disk(path=str(tmp_path / "cache.db")))) as cache:
        await cache.get("k")
        assert traced.names == []
        await cache.configure_tracing(ON)
        await cache.get("k")
        assert traced.names == ["read default"]
        await cache.configure(CacheConfig(backend=cache.config.backend))
        await cache.get("k")
        assert traced.names == ["read default"]
        await cache.configure_monitoring(MonitoringConfig(tracing=True))
        await cache.get("k")
        assert traced.names == ["read default"] * 2


async def test_without_its_extra_tracing_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "clusterdb.tracing.tracer", None)
    with pytest.raises(MissingExtra, match=r"clusterdb-cache\[otel\]"):
        Cache(CacheConfig(tracing=ON))
    async with Cache() as cache:
        with pytest.raises(MissingExtra, match="otel"):
            await cache.configure_tracing(ON)
        assert cache.config.tracing is None


def test_nothing_of_tracing_is_imported_while_it_is_off(tmp_path):
    """Through a whole life on a backend whose calls would be traced."""
    script = (
        "import asyncio, sys\n"
        "from clusterdb.cache import Cache\n"
        "async def main():\n"
        f"    async with Cache.from_url('disk://{tmp_path}/cache.db') as cache:\n"
        "        await cache.set('a', 1)\n"
        "        assert await cache.get('a') == 1\n"
        "        assert await cache.get_or_load('b', lambda: 2) == 2\n"
        "        await cache.get_health()\n"
        "asyncio.run(main())\n"
        "found = [name for name in sys.modules if 'opentelemetry' in name]\n"
        "print(found + [n for n in sys.modules if n == 'clusterdb.tracing.tracer'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
