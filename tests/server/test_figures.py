"""What a server tells of its cache."""

import httpx
import pytest

from clusterdb.cache import (
    AlertConfig,
    Cache,
    CacheConfig,
    CacheRegion,
    Disk,
    GetOptions,
    Metric,
    MetricsConfig,
)
from clusterdb.cache.testing import ManualClock
from clusterdb.monitoring.text_format import text_format


async def test_statistics_are_those_of_the_cache(client: httpx.AsyncClient, cache: Cache):
    await cache.region("session").set("a", 1)
    await cache.region("session").get("a")
    await cache.region("session").get("b")

    told = (await client.get("/v1/statistics")).json()["regions"]["session"]
    assert (told["hits"], told["misses"], told["items"]) == (1, 1, 1)
    assert told["max_weight"] == 1_000_000


async def test_the_overview_names_regions_and_limits(client: httpx.AsyncClient):
    told = (await client.get("/v1/overview")).json()
    assert (told["cache"], told["backend"]["kind"], told["read_only"]) == ("shop", "memory", False)
    [session] = [each for each in told["regions"] if each["name"] == "session"]
    assert (session["ttl"], session["max_weight"]) == (3600.0, 1_000_000)
    assert told["near"] is None


async def test_a_shared_backend_tells_of_its_near_tier_and_processes(tmp_path, client_of):
    async with Cache(CacheConfig(backend=Disk(path=tmp_path / "c.db"))) as cache:
        client = client_of(cache)
        told = (await client.get("/v1/overview")).json()
        assert told["near"] == {"max_staleness": 1.0, "consistency": "bounded"}
        assert len(told["backend"]["members"]) == 1
        assert told["backend"]["size"] > 0
        await cache.get("absent", options=GetOptions(consistent=True))
        text = (await client.get("/metrics")).text
        names = {name for line in text.splitlines() if (name := line.split("{")[0])[:1] != "#"}
        assert {f"cache_operation_seconds_{part}" for part in ("bucket", "sum", "count")} <= names
        entry = "/v1/regions/default/entry"
        await cache.set("k", b"raw")
        assert (await client.get(entry, params={"key": "k"})).json()["type"] == "bytes"


async def test_metrics_are_what_the_cache_measures(client: httpx.AsyncClient, cache: Cache):
    await cache.get("absent")
    text = (await client.get("/metrics")).text
    assert 'cache_misses_total{cache="shop",region="default"} 1' in text
    assert {metric.name for metric in await cache.get_metrics()} == {
        line.split()[2].removesuffix("_total") for line in text.splitlines() if line[:6] == "# TYPE"
    }


def test_prometheus_reads_the_text():
    parser = pytest.importorskip("prometheus_client.parser")
    labels = {"region": 'a"b\\c\nd'}
    metrics = [
        Metric(name="cache_hits", kind="counter", value=2.0**53, labels=labels, help="a\\b\nc"),
        Metric(name="cache_size", kind="gauge", value=float("inf")),
        Metric(name="cache_hits", kind="counter", value=1.5, labels={"region": "x"}),
    ]
    histogram = Metric(
        name="cache_seconds",
        kind="histogram",
        value=5,
        sum=2.5,
        buckets=((0.1, 2), (1.0, 4)),
        labels={"tier": "disk"},
    )
    families = list(parser.text_string_to_metric_families(text_format([*metrics, histogram])))
    assert [(family.name, family.type) for family in families] == [
        ("cache_hits", "counter"),
        ("cache_size", "gauge"),
        ("cache_seconds", "histogram"),
    ]
    assert [(each.name, each.labels.get("le"), each.value) for each in families[2].samples] == [
        ("cache_seconds_bucket", "0.1", 2),
        ("cache_seconds_bucket", "1", 4),
        ("cache_seconds_bucket", "+Inf", 5),
        ("cache_seconds_sum", None, 2.5),
        ("cache_seconds_count", None, 5),
    ]
    assert [(sample.labels, sample.value) for sample in families[0].samples] == [
        (labels, 2.0**53),
        ({"region": "x"}, 1.5),
    ]


async def test_health_says_whether_it_is_alive_and_ready(client: httpx.AsyncClient, cache: Cache):
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    checks = (await client.get("/v1/health")).json()["checks"]
    assert "backend" in [check["name"] for check in checks]
    await cache.aclose()
    assert (await client.get("/healthz")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"status": "failing"})
    closed = await client.get("/v1/statistics")
    assert closed.status_code == 503
    assert closed.json()["type"] == "urn:clusterdb:cache:problem:unavailable"


async def test_advice_and_hot_keys(client: httpx.AsyncClient, cache: Cache):
    for turn in range(20_000):
        key = f"k:{turn * turn % 1009}"
        if await cache.get(key) is None:
            await cache.set(key, 1)
    for _ in range(5000):
        await cache.get("k:1")
    advice = (await client.get("/v1/regions/default/advice")).json()
    assert advice["curve"]
    hot = (await client.get("/v1/regions/default/hot-keys")).json()
    assert (hot["keys"][0][0], hot["seconds"]) == ("k:1", None)
    counted = await client.get("/v1/regions/default/hot-keys", params={"seconds": "1"})
    assert (counted.status_code, "Redis" in counted.json()["detail"]) == (501, True)


async def test_samples_can_be_chosen_by_name(client: httpx.AsyncClient, cache: Cache):
    await cache.get("absent")
    every = (await client.get("/v1/metrics")).json()["metrics"]
    assert len(every) == len(await cache.get_metrics())
    names = {"name": ["cache_hits", "cache_misses_total"]}
    some = (await client.get("/v1/metrics", params=names)).json()["metrics"]
    assert {
        (each["name"], each["value"]) for each in some if each["labels"]["region"] == "default"
    } == {
        ("cache_hits", 0.0),
        ("cache_misses", 1.0),
    }


async def test_alerts_are_told_while_they_fire_and_after(client_of):
    clock = ManualClock()
    alerts = AlertConfig(max_memory_usage=0.5, recovery=10)
    config = CacheConfig(
        metrics=MetricsConfig(alerts=alerts), regions=(CacheRegion("small", size="2kB"),)
    )
    async with Cache(config, clock=clock) as cache:
        client, sampling = client_of(cache), cache.access.runtime.sampling
        small = cache.region("small")
        await small.set("k", "x" * 1500)
        await sampling.take()
        clock.advance(3)
        [firing] = (await client.get("/v1/alerts")).json()["firing"]
        assert (firing["name"], firing["labels"]["region"]) == ("max_memory_usage", "small")
        assert (firing["limit"], firing["lasted"], firing["over_in"]) == (0.5, 3.0, None)
        assert firing["value"] > 0.5

        await small.delete("k")
        await sampling.take()
        clock.advance(4)
        [firing] = (await client.get("/v1/alerts")).json()["firing"]
        assert (firing["value"], firing["over_in"]) == (0.0, 6.0)

        clock.advance(6)
        await sampling.take()
        clock.advance(2)
        told = (await client.get("/v1/alerts")).json()
        assert told["firing"] == []
        [over] = told["over"]
        assert (over["ago"], over["alert"]["state"], over["alert"]["lasted"]) == (
            2.0,
            "resolved",
            13.0,
        )
