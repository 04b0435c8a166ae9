"""Prometheus sees what there is: real scrapes over HTTP, read by the client's own parser."""

import asyncio
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families

from clusterdb.cache import Cache, CacheConfig, CacheRegion, MetricsConfig, MonitoringConfig
from clusterdb.cache.measures import METRICS
from clusterdb.cache.testing import ManualClock
from clusterdb.monitoring import AlertConfig, Metric, Monitor, Rate, Rule
from clusterdb.monitoring.prometheus import exposition

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def served(registry: CollectorRegistry) -> Iterator[str]:
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        text: str = response.read().decode()
        return text


def series_of(text: str) -> Series:
    """Every series; one that is there twice fails."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


def of(series: Series, name: str, **labels: str) -> float:
    wanted = labels.items()
    [value] = [each for (known, has), each in series.items() if known == name and wanted <= has]
    return value


async def test_a_real_scrape():
    registry = CollectorRegistry()
    async with Cache(CacheConfig(name="shop", regions=[CacheRegion("session")])) as cache:
        await cache.set("k", 1)
        await cache.get("k")
        await cache.get("absent")
        await cache.region("session").get_or_load("s", lambda: 1)
        Monitor(cache).register(registry)
        with served(registry) as url:
            text = await asyncio.to_thread(fetch, url)
            await cache.get("k")
            later = series_of(await asyncio.to_thread(fetch, url))

    first = series_of(text)
    default = {"cache": "shop", "region": "default"}
    assert of(first, "cache_hits_total", **default) == 1
    assert of(first, "cache_misses_total", **default) == 1
    assert of(first, "cache_size", **default) == 1
    assert of(first, "cache_up", cache="shop") == 1
    assert of(first, "cache_load_duration_seconds_count", region="session", outcome="ok") == 1
    assert of(first, "cache_load_duration_seconds_bucket", region="session", le="+Inf") == 1
    assert of(later, "cache_hits_total", **default) == 2, "each scrape is of its moment"


async def test_what_is_shown_is_what_get_metrics_says():
    """One source: the page and the call differ in nothing."""
    clock = ManualClock()
    async with Cache(clock=clock) as cache:
        await cache.get_or_load("k", lambda: 1)
        samples = await cache.get_metrics()
        shown = series_of(exposition(samples)[0].decode())

    names = {name for metric in samples for name in METRICS[metric.name].exposed}
    assert {name for name, _ in shown} == names
    assert len([key for key in shown if not key[0].startswith("cache_load_dur")]) == len(
        [metric for metric in samples if metric.kind != "histogram"]
    )


async def test_open_metrics_is_given_to_who_asks_for_it():
    async with Cache() as cache:
        page, kind = exposition(
            await cache.get_metrics(), "application/openmetrics-text; version=1.0.0"
        )
    assert kind.startswith("application/openmetrics-text")
    assert {family.name for family in open_metrics(page.decode())} >= {"cache_hits", "cache_size"}


async def test_caches_of_one_process_are_told_apart():
    registry = CollectorRegistry()
    one, two, three = [Cache(CacheConfig(name=name)) for name in ("a", "b", "a")]
    async with one, two, three:
        monitor = Monitor(one, two, three, one)
        monitor.watch(two)
        monitor.register(registry)
        await one.set("k", 1)
        await three.set_many({"k": 1, "l": 2})
        with served(registry) as url:
            series = series_of(await asyncio.to_thread(fetch, url))

    sizes = {
        dict(labels)["cache"]: value
        for (name, labels), value in series.items()
        if name == "cache_size"
    }
    assert sizes == {"a": 1, "b": 0, "a#2": 2}


async def test_many_regions_are_few_series():
    regions = [CacheRegion(f"r{number}") for number in range(300)]
    config = CacheConfig(regions=regions, metrics=MetricsConfig(max_regions=10))
    async with Cache(config) as cache:
        for number in range(300):
            await cache.region(f"r{number}").set("k", 1)
        samples = await cache.get_metrics()
    sizes = {each.labels["region"]: each.value for each in samples if each.name == "cache_size"}

    assert len(sizes) == 11
    assert sum(sizes.values()) == 300
    assert sizes["other"] == 291


def test_hostile_labels_stay_labels():
    evil = 'x"} 1\ncache_hits_total{region="faked'
    page, _ = exposition([Metric(name="m", kind="gauge", value=1, labels={"region": evil})])

    assert series_of(page.decode()) == {("m", frozenset({("region", evil)})): 1.0}


async def test_a_source_that_fails_harms_no_other(caplog):
    class Broken:
        async def get_metrics(self) -> list[Metric]:
            raise OSError("no figures today")

    async with Cache() as cache:
        monitor = Monitor(Broken(), cache)
        await monitor.sample()
        series = series_of(exposition(await monitor.sample())[0].decode())

    assert of(series, "cache_monitor_failures_total") == 2
    assert of(series, "cache_up") == 1
    assert len([each for each in caplog.messages if "no figures today" in each]) == 1


def test_a_program_without_a_loop_is_scraped():
    registry = CollectorRegistry()
    with Cache().sync as cache, served(registry) as url:
        Monitor(cache).register(registry)
        cache.set("k", 1)
        assert of(series_of(fetch(url)), "cache_size") == 1


def test_without_a_loop_an_asynchronous_source_is_refused():
    with pytest.raises(ValueError, match=r"watch the cache's \.sync"):
        Monitor(Cache()).register(CollectorRegistry())


async def test_a_scrape_in_the_loop_itself_gets_the_latest_samples():
    registry = CollectorRegistry()
    async with Cache() as cache, Monitor(cache) as monitor:
        monitor.register(registry)
        assert registry.get_sample_value("cache_up", {"cache": "main"}) == 1


async def test_a_scrape_of_a_loop_that_stands_still_gets_the_latest_samples(monkeypatch):
    monkeypatch.setattr("clusterdb.monitoring.monitor._WITHIN", 0.05)
    async with Cache() as cache, Monitor(cache) as monitor:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(monitor.collect()))
        thread.start()
        thread.join(10)  # the loop waits here, too
        assert {each.name for each in found} >= {"cache_up", "cache_monitor_failures"}


async def test_the_monitor_alerts_over_all_its_caches():
    clock, told = ManualClock(), list[Any]()
    one, two = [Cache(CacheConfig(name=name), clock=clock) for name in ("a", "b")]
    mine = Rule(name="mine", reading=Rate("cache_sets"), limit=5, remedy="write less")
    monitor = Monitor(
        one, two, alerts=AlertConfig(min_hit_ratio=0.9), rules=[mine], sinks=[told.append],
        now=clock.now,
    )  # fmt: skip
    async with one, two:
        await monitor.look()
        for number in range(200):
            await one.get(f"k{number}")
            await two.set(f"k{number}", 1)
        clock.advance(10)
        turned = await monitor.look()
        samples = await monitor.sample()
        await monitor.aclose()

    assert {(each.name, each.labels["cache"]) for each in turned} == {
        ("min_hit_ratio", "a"), ("mine", "b"),
    }  # fmt: skip
    assert told == turned
    assert {each.labels["alert"] for each in samples if each.name == "cache_alert_firing"} == {
        "min_hit_ratio", "mine",
    }  # fmt: skip


@pytest.mark.parametrize("bad", [{"interval": 0}, {"interval": float("nan")}])
def test_a_wrong_interval_is_refused(bad):
    with pytest.raises(ValueError, match="interval"):
        Monitor(**bad)


def test_a_source_without_metrics_is_refused():
    with pytest.raises(ValueError, match="get_metrics"):
        Monitor(object())  # type: ignore[arg-type]


@pytest.mark.process
@pytest.mark.parametrize("metrics", [True, False])
def test_nothing_of_prometheus_is_imported_until_it_is_shown(metrics):
    code = f"""
import asyncio, sys
from clusterdb.cache import Cache, CacheConfig, MonitoringConfig
async def main():
    async with Cache(CacheConfig(monitoring=MonitoringConfig(metrics={metrics}))) as cache:
        await cache.set("k", 1)
        assert bool(await cache.get_metrics()) is {metrics}
asyncio.run(main())
assert "prometheus_client" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_off_means_that_nothing_is_timed():
    from tests.encoding import BytesBackend

    clock = ManualClock()
    config = CacheConfig(monitoring=MonitoringConfig(metrics=False))
    async with Cache(config, backend=BytesBackend(clock), clock=clock) as cache:
        await cache.get_or_load("k", lambda: 1)
        assert await cache.get_metrics() == []
        await cache.configure_monitoring(MonitoringConfig())
        assert "cache_operation_seconds" not in {each.name for each in await cache.get_metrics()}
        await cache.get("k")
        samples = {each.name for each in await cache.get_metrics()}
    assert "cache_operation_seconds" in samples
