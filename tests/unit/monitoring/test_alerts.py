"""The rules of alerts, against a second, slower reading of what they promise."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.monitoring import Alert, AlertConfig, Metric, Rate, Ratio, Rule, Share, Watch
from clusterdb.monitoring.alerts import rules_of
from clusterdb.monitoring.metrics import Labels

HERE: Labels = (("cache", "main"), ("region", "r"))


def rule(**changed) -> Rule:
    given = {"name": "a", "reading": Rate("c"), "limit": 10.0, **changed}
    return Rule(**given)


def sample(name: str, value: float, kind="counter", region: str = "r") -> Metric:
    return Metric(name=name, kind=kind, value=value, labels={"cache": "main", "region": region})


def states(turned: list[Alert]) -> list[str]:
    return [alert.state for alert in turned]


steps = st.lists(st.tuples(st.floats(0, 50), st.none() | st.floats(0, 20)), min_size=1, max_size=40)


@given(steps, st.floats(0, 60), st.floats(0, 60))
def test_it_fires_and_is_over_as_promised(steps, hold, recovery):
    """The model looks back over all readings each time, and remembers only whether it fires."""
    watch, now, seen, firing = Watch([rule(hold=hold, recovery=recovery)]), 0.0, [], False
    for step, value in steps:
        now += step
        seen.append((now, value is not None and value > 10.0))
        turned = watch.judge(watch.rules[0], {} if value is None else {HERE: value}, now)
        same = now
        for moment, broken in reversed(seen):
            if broken != seen[-1][1]:
                break
            same = moment
        long_enough = now - same >= (recovery if firing else hold)
        turns = seen[-1][1] != firing and long_enough
        firing ^= turns
        assert states(turned) == (["firing" if firing else "resolved"] if turns else [])
        assert bool(watch.firing(now)) == firing


@given(steps)
def test_nothing_is_remembered_of_what_is_well(steps):
    watch, now = Watch([rule(hold=5.0)]), 0.0
    for step, value in steps:
        now += step
        watch.judge(watch.rules[0], {} if value is None else {HERE: value}, now)
    watch.judge(watch.rules[0], {}, now)
    assert watch._series == {}


@given(st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 10**6)), min_size=2, max_size=20))
def test_a_rate_is_never_below_nothing(samples):
    """Also where a counter begins anew."""
    watch, now = Watch([rule(limit=-1.0)]), 0.0
    for number, (step, value) in enumerate(samples):
        now += step
        watch.look([sample("c", value)], now)
        if number:
            [alert] = watch.firing(now)
            assert alert.value is not None
            assert 0 <= alert.value < math.inf


def test_the_first_look_reads_no_rate():
    watch = Watch([rule()])

    assert watch.look([sample("c", 10_000)], 5.0) == []
    [alert] = watch.look([sample("c", 10_110)], 10.0)
    assert (alert.value, alert.labels) == (22.0, {"cache": "main", "region": "r"})


def test_series_are_judged_by_themselves():
    watch = Watch([rule()])
    watch.look([sample("c", 0), sample("c", 0, region="s")], 0.0)
    turned = watch.look([sample("c", 5), sample("c", 500, region="s")], 1.0)

    assert [alert.labels["region"] for alert in turned] == ["s"]


def test_a_series_that_goes_is_over():
    watch = Watch([rule(reading=Share("weight", "limit"), limit=0.9)])
    full = [sample("weight", 95, "gauge"), sample("limit", 100, "gauge")]

    assert states(watch.look(full, 0.0)) == ["firing"]
    [over] = watch.look([], 1.0)
    assert (over.state, over.value, over.lasted) == ("resolved", None, 1.0)
    assert "no reading" in over.text


def test_a_ratio_of_few_calls_says_nothing():
    reading = Ratio("failed", ("all",), least=10)
    watch = Watch([rule(reading=reading, limit=0.5)])
    watch.look([sample("failed", 0), sample("all", 0)], 0.0)

    assert watch.look([sample("failed", 9), sample("all", 9)], 1.0) == []
    assert states(watch.look([sample("failed", 19), sample("all", 19)], 2.0)) == ["firing"]


@pytest.mark.parametrize(
    ("config", "before", "after"),
    [
        (AlertConfig(max_eviction_rate=10), {"cache_evictions": 0}, {"cache_evictions": 200}),
        (
            AlertConfig(max_load_failures=0.5),
            {"cache_load_failures": 0, "cache_loads": 0},
            {"cache_load_failures": 80, "cache_loads": 100},
        ),
        (
            AlertConfig(min_hit_ratio=0.5),
            {"cache_hits": 0, "cache_misses": 0},
            {"cache_hits": 20, "cache_misses": 80},
        ),
    ],
)
def test_each_setting_has_its_rule(config, before, after):
    watch = Watch(rules_of(config))
    watch.look([sample(name, value) for name, value in before.items()], 0.0)
    [alert] = watch.look([sample(name, value) for name, value in after.items()], 10.0)

    assert alert.state == "firing"
    assert alert.name in alert.text
    assert alert.remedy in alert.text
    well = watch.look([sample(name, value) for name, value in after.items()], 20.0)
    assert states(well) == ["resolved"]


def test_none_is_never():
    assert rules_of(AlertConfig()) == []
