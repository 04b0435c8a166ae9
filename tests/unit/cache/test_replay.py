"""Replays hit as often as they should, and nothing hits more often than the optimum."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.effort import times

from clusterdb.cache.policy import POLICIES
from clusterdb.cache.replay import optimum, replay

traces = st.lists(st.sampled_from("abcdef"), max_size=14)


def best(requests: tuple[str, ...], capacity: int) -> int:
    """The optimum, by trying everything: keep or not, and whom to evict."""

    @cache
    def hits(at: int, resident: frozenset[str]) -> int:
        if at == len(requests):
            return 0
        key = requests[at]
        if key in resident:
            return 1 + hits(at + 1, resident)
        choices = [resident]
        if len(resident) < capacity:
            choices.append(resident | {key})
        choices += [resident - {victim} | {key} for victim in resident]
        return max(hits(at + 1, choice) for choice in choices)

    return hits(0, frozenset())


@given(traces, st.integers(1, 4))
def test_the_optimum_is_what_no_choice_can_better(requests, capacity):
    assert optimum(requests, capacity) == best(tuple(requests), capacity)


@pytest.mark.parametrize("policy", POLICIES)
@given(requests=st.lists(st.sampled_from("abcdefghij"), max_size=60), capacity=st.integers(1, 6))
@settings(max_examples=times(30))
def test_no_policy_hits_more_often(policy, requests, capacity):
    assert replay(requests, policy, capacity) <= optimum(requests, capacity)


@pytest.mark.parametrize("policy", POLICIES)
def test_what_fits_is_missed_once_each(policy):
    keys = [str(number) for number in range(50)]

    assert replay(keys * 3, policy, 50) == 100


def test_a_loop_defeats_lru_and_not_the_default():
    loop = [str(number) for number in range(300)] * 40

    assert replay(loop, "lru", 200) == 0
    assert replay(loop, "adaptive", 200) > 0.8 * optimum(loop, 200)


def test_recency_is_kept_by_the_default():
    """Each key is used three times, closely, and never again."""
    requests = [str(at // 3 * 7 + at % 3 * 0) for at in range(30_000)]
    burst = [key for at in range(0, len(requests), 150) for key in requests[at : at + 150 : 3] * 3]

    assert replay(burst, "adaptive", 100) > 0.95 * replay(burst, "lru", 100)
