"""The XFetch rule: who is to load again, how long before the expiry."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.pace import Pace


def measured(*seconds: float, beta: float = 1.0) -> Pace:
    pace = Pace()
    pace.configure(beta)
    for each in seconds:
        pace.note(each)
    return pace


@given(left=st.floats(0, 100), draw=st.floats(0, 1, exclude_max=True))
def test_it_is_the_formula_of_the_paper(left: float, draw: float):
    """now - delta * beta * ln(rand()) >= expiry, within the horizon."""
    pace = measured(0.5, beta=2.0)
    early = -math.log(1 - draw) * 2.0 * 0.5
    assert pace.due(left, draw) == (left <= early and left <= pace.horizon)


@pytest.mark.parametrize("left", [0.1, 1.0, 2.0])
def test_the_odds_are_exponential(left: float):
    draw, pace = random.Random(5).random, measured(1.0)
    share = sum(pace.due(left, draw()) for _ in range(20_000)) / 20_000
    assert share == pytest.approx(math.exp(-left), abs=0.01)


def test_nobody_is_due_before_a_load_was_measured_or_without_a_factor():
    for pace in (measured(beta=1.0), measured(1.0, beta=0.0), Pace()):
        assert pace.horizon == 0.0
        assert not any(pace.due(0.0, draw / 100) for draw in range(100))


def test_beyond_the_horizon_nobody_need_draw():
    pace = measured(1.0)
    assert pace.horizon == 20.0
    assert not pace.due(20.1, 1 - 2**-53)
    assert pace.due(19.9, 1 - 2**-53)


def test_the_time_of_a_load_is_a_moving_average():
    assert measured(1.0).horizon == 20.0
    assert measured(1.0, 2.0).horizon == pytest.approx(24.0)
    assert measured(100.0, *[1.0] * 50).horizon == pytest.approx(20.0, rel=0.01)


def test_a_new_factor_keeps_what_was_measured():
    pace = measured(1.0)
    pace.configure(0.5)
    assert pace.horizon == 10.0
    pace.configure(0.0)
    assert pace.horizon == 0.0
