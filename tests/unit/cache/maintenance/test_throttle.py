"""The pace of maintenance: by keys a second, and by how long its own steps take."""

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.maintenance.throttle import Throttle


@given(st.integers(1, 100_000), st.integers(0, 500), st.floats(0, 1))
def test_neither_the_rate_nor_the_share_of_time_is_passed(rate, keys, took):
    throttle = Throttle(rate)

    pause = throttle.pause(keys, took)

    if pause < 5:  # no pause is longer
        assert took + pause >= keys / rate * 0.999
        assert took <= 0.2001 * (took + pause)


def test_a_step_is_a_small_part_of_a_second():
    assert [Throttle(rate).batch for rate in (1, 200, 2_000, 1_000_000)] == [1, 10, 100, 500]
