import gc
from itertools import pairwise

import pytest
from tests.unit.benchmarks.scripts import script

rounds = script("_rounds")
alternate, rotation, time_calls = rounds.alternate, rounds.rotation, rounds.time_calls
spread, summary, versus = rounds.spread, rounds.summary, rounds.versus


def test_summary_is_the_median_with_its_quartiles():
    found = summary([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


def test_one_sample_is_its_own_summary():
    assert summary([7.0]).median == summary([7.0]).low == summary([7.0]).high == 7.0


def test_a_ratio_is_made_round_by_round_so_that_drift_cancels():
    drifting = {"a": [2.0, 20.0, 200.0], "b": [1.0, 10.0, 100.0]}
    ratio = versus(drifting, "a", "b")
    assert (ratio.low, ratio.median, ratio.high) == (2.0, 2.0, 2.0)


def test_rounds_that_don_t_pair_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        versus({"a": [1.0, 2.0], "b": [1.0]}, "a", "b")


def test_spread_is_the_farther_quartile_of_a_subject_to_itself():
    times = {"a": [1.0] * 5, "again": [0.7, 0.9, 1.0, 1.05, 1.1]}
    assert spread(times, "a", "again") == pytest.approx(0.1)


def test_each_subject_leads_and_neighbours_change_sides():
    names = ["a", "b", "c"]
    orders = [rotation(names, turn) for turn in range(6)]
    assert {order[0] for order in orders} == set(names)
    assert all(sorted(order) == names for order in orders)
    after = {(x, y) for order in orders for x, y in pairwise(order)}
    assert {("a", "b"), ("b", "a")} <= after


def test_the_warm_up_round_does_not_count_and_all_take_turns():
    seen = []

    def subject(name):
        def run():
            seen.append(name)
            return float(len(seen))

        return run

    times = alternate({"a": subject("a"), "b": subject("b")}, 4)
    assert [len(times["a"]), len(times["b"]), len(seen)] == [4, 4, 10]
    assert min(times["a"] + times["b"]) == 3.0
    assert all(set(seen[at : at + 2]) == {"a", "b"} for at in range(0, 10, 2))


def test_without_warm_up_every_round_counts():
    assert alternate({"a": lambda: 1.0}, 2, warm_up=False) == {"a": [1.0, 1.0]}


def test_garbage_is_collected_before_each_round_and_the_collector_stays_on():
    collected = []

    def watch(phase, info):
        collected.append((phase, info["generation"]))

    gc.callbacks.append(watch)
    try:
        alternate({"a": lambda: 1.0}, 2)
    finally:
        gc.callbacks.remove(watch)
    assert collected.count(("start", 2)) >= 3
    assert gc.isenabled()


def test_time_calls_calls_each_key_once():
    seen: list[str] = []
    assert time_calls(seen.append, ["x", "y"]) > 0
    assert seen == ["x", "y"]
