"""Samples: what is kept of many regions, and what histograms add up to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.monitoring import Metric
from clusterdb.monitoring.metrics import OTHER, Described, fold, selected
from clusterdb.monitoring.timings import BOUNDS, Timings, quantile

LATENCY = Described("l", "histogram", ("cache", "region"), "how long")


def sample(region: str, value: float = 1.0, name: str = "m") -> Metric:
    return Metric(name=name, kind="counter", value=value, labels={"region": region})


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 100))), st.integers(1, 9))
def test_folding_keeps_the_sum_and_bounds_the_regions(given_samples, limit):
    folded = fold([sample(region, value) for region, value in given_samples], limit)
    regions = [metric.labels["region"] for metric in folded]

    assert sum(metric.value for metric in folded) == sum(value for _, value in given_samples)
    assert len(set(regions)) == len(regions) <= limit + 1
    if OTHER not in regions:
        assert set(regions) == {region for region, _ in given_samples}


def test_the_same_regions_are_kept_of_every_metric():
    samples = [sample(region, name=name) for name in "xy" for region in "abc"]

    assert [(each.name, each.labels["region"]) for each in fold(samples, 2)] == [
        ("x", "a"), ("x", "b"), ("x", OTHER), ("y", "a"), ("y", "b"), ("y", OTHER),
    ]  # fmt: skip


def test_names_are_those_of_here_or_of_the_wire():
    samples = [sample("a", name="hits"), sample("a", name="size")]

    assert selected(samples, ()) == samples
    assert selected(samples, ["hits_total"]) == samples[:1]


@given(st.lists(st.floats(0, 10), max_size=100))
def test_a_histogram_counts_each_once_and_grows_with_its_bounds(seconds):
    timings = Timings(LATENCY)
    for each in seconds:
        timings.observe(("r",), each)
    if not seconds:
        assert timings.samples("main") == []
        return
    [found] = timings.samples("main")

    assert (found.value, found.labels) == (len(seconds), {"cache": "main", "region": "r"})
    assert abs(found.sum - sum(seconds)) < 1e-6
    for bound, count in found.buckets:
        assert count == len([each for each in seconds if each <= bound])
    assert [bound for bound, _ in found.buckets] == list(BOUNDS)


def test_histograms_of_folded_regions_are_added_up():
    timings = Timings(LATENCY)
    for region in ("a", "b", "c"):
        timings.observe((region,), 0.002)
    kept, others = fold(timings.samples("main"), 1)

    assert (kept.value, others.value, others.labels["region"]) == (1, 2, OTHER)
    assert dict(others.buckets)[0.0025] == 2
    assert dict(others.buckets)[0.001] == 0


@pytest.mark.parametrize(
    ("seconds", "half", "most"),
    [
        ([0.0002] * 10, 0.000175, 0.0002485),  # spread evenly in the bucket up to 0.25 ms
        ([0.0002] * 99 + [0.3], 0.00017576, 0.00025),
        ([9.0] * 3, math.inf, math.inf),
        ([0.00005, 0.002], 0.0001, 0.00247),
    ],
)
def test_quantiles_are_read_from_the_buckets(seconds: list[float], half: float, most: float):
    timings = Timings(LATENCY)
    for each in seconds:
        timings.observe(("r",), each)
    [histogram] = timings.samples("c")
    assert quantile(histogram, 0.5) == pytest.approx(half, rel=1e-4)
    assert quantile(histogram, 0.99) == pytest.approx(most, rel=1e-4)


def test_nothing_observed_has_no_quantile():
    assert math.isnan(quantile(Metric(name="l", kind="histogram", value=0), 0.5))
