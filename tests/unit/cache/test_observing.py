"""Rates over the last interval, samples by a timer, and figures while the backend is away."""

import asyncio
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.encoding import BytesBackend

from clusterdb.cache import (
    AlertConfig,
    AlertTurned,
    BackendUnavailable,
    Cache,
    CacheConfig,
    CacheRegion,
    CacheStatistics,
    MetricsConfig,
    MonitoringConfig,
)
from clusterdb.cache.protocols import BackendInfo
from clusterdb.cache.rates import RateHistory
from clusterdb.cache.stats import Counters, LoadCounters, RegionStats
from clusterdb.cache.testing import ManualClock


def stats(**counted: int) -> RegionStats:
    fields: dict[str, Any] = dict.fromkeys(
        (*Counters.__struct_fields__, *LoadCounters.__struct_fields__, "undecodable"), 0
    )
    limits: dict[str, Any] = dict.fromkeys(("items", "weight", "max_items", "max_weight"))
    return RegionStats(**{"name": "r", **limits, **fields, **counted})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_rates_are_of_the_last_interval(clock):
    async with Cache(CacheConfig(regions=[CacheRegion("users")]), clock=clock) as cache:
        sampling = cache.access.runtime.sampling
        assert (await cache.get_statistics()).rates == {}
        for _ in range(30):
            await cache.get("absent")
        clock.advance(60)
        await sampling.take()
        first = (await cache.get_statistics()).rates
        await cache.set("k", 1)
        for _ in range(30):
            await cache.get("k")
        clock.advance(10)
        await sampling.take()
        second = (await cache.get_statistics()).rates
        await cache.configure_monitoring(
            MonitoringConfig(statistics=CacheStatistics(enabled=False))
        )
        off = (await cache.get_statistics()).rates

    assert (first["default"].seconds, first["default"].misses) == (60, 0.5)
    assert (first["default"].hit_ratio, first["users"].hit_ratio) == (0.0, None)
    assert (second["default"].seconds, second["default"].hits) == (10, 3.0)
    assert (second["default"].sets, second["default"].hit_ratio) == (0.1, 1.0)
    assert off == {}


@given(st.lists(st.tuples(st.floats(-5, 100), st.integers(0, 1000)), max_size=20))
def test_rates_are_finite_and_never_below_nothing(samples):
    """Also where a counter begins anew, or the clock stands."""
    history, now = RateHistory(0.0), 0.0
    for step, hits in samples:
        now += step
        history.add({"r": stats(hits=hits)}, now)
        for rates in history.rates.values():
            assert rates.seconds > 0
            assert 0 <= rates.hits <= 1000 / rates.seconds


async def test_a_sample_is_taken_each_interval_while_the_cache_runs():
    """In real time, as the timer is the loop's."""
    monitoring = MonitoringConfig(statistics=CacheStatistics(interval=0.1))
    alerts = MetricsConfig(alerts=AlertConfig(min_hit_ratio=0.9))
    cache = Cache(CacheConfig(monitoring=monitoring, metrics=alerts))
    async with asyncio.timeout(20), cache, cache.subscribe(AlertTurned) as events:
        for number in range(200):
            await cache.get(f"k{number}")
        event: Any = await anext(events)
        assert (event.alert, event.state, event.region) == ("min_hit_ratio", "firing", "default")
        over: Any = await anext(events)
        assert over.state == "resolved", "nothing was read in the interval after"
    assert cache.access.runtime.sampling._timer is None


async def test_a_sample_that_fails_is_followed_by_the_next(caplog):
    class Flaky(BytesBackend):
        asked = 0

        async def describe(self) -> BackendInfo:
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("not today")
            return await super().describe()

    backend = Flaky(ManualClock())
    monitoring = MonitoringConfig(statistics=CacheStatistics(interval=0.1))
    async with asyncio.timeout(20), Cache(CacheConfig(monitoring=monitoring), backend=backend):
        while backend.asked < 3:  # noqa: ASYNC110 - the timer is the loop's
            await asyncio.sleep(0.01)
    assert len([each for each in caplog.messages if "not today" in each]) == 1


async def test_figures_stay_while_the_backend_is_away(clock):
    class Leaving(BytesBackend):
        away = False

        async def describe(self) -> BackendInfo:
            if self.away:
                raise BackendUnavailable("gone to lunch")
            return await super().describe()

    backend = Leaving(clock)
    async with Cache(backend=backend, clock=clock) as cache:
        await cache.set("k", 1)
        here = {each.name: each.value for each in await cache.get_metrics()}
        backend.away = True
        await cache.get_or_load("l", lambda: 2)
        away = {each.name: each.value for each in await cache.get_metrics()}

    assert (here["cache_up"], away["cache_up"]) == (1, 0)
    assert here["cache_sets"] == away["cache_sets"] == 1
    assert away["cache_loads"] == 1, "what this process knows is as it is now"


async def test_a_backend_that_was_never_there_has_metrics(clock):
    class Never(BytesBackend):
        async def open(self) -> None:
            raise BackendUnavailable("nobody home")

    cache = Cache(backend=Never(clock), clock=clock)
    found = {each.name: each.value for each in await cache.get_metrics()}
    await cache.aclose()

    assert found["cache_up"] == 0


async def test_a_change_of_alerts_acts_at_once(clock):
    async with Cache(clock=clock) as cache:
        sampling = cache.access.runtime.sampling
        await sampling.take()
        await cache.configure_monitoring(MetricsConfig(alerts=AlertConfig(max_eviction_rate=1)))
        fired = {
            each.labels["alert"] for each in await cache.get_metrics() if "alerts" in each.name
        }
        await cache.configure_monitoring(MetricsConfig())
        none = [each for each in await cache.get_metrics() if "alert" in each.name]

    assert fired == {"max_eviction_rate"}
    assert none == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
async def test_a_forked_child_samples_by_itself(clock):
    async with Cache(clock=clock) as cache:
        sampling = cache.access.runtime.sampling
        assert sampling._timer is not None
        kept = sampling._timer
        sampling.forked()
        assert sampling._timer is None
        kept.cancel()


def test_a_webhook_is_never_shown():
    url = "https://hooks.example/T000/secret"
    config = CacheConfig(metrics=MetricsConfig(alerts=AlertConfig(webhook=url)))

    assert "secret" not in repr(config) + str(config.metrics)
    assert "***" in repr(config)
