"""Pauses between attempts grow, stay under their bound, and differ from client to client."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache.backoff import Backoff


@given(draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20))
def test_a_pause_is_drawn_up_to_a_bound_that_doubles(draws):
    rest = iter(draws)
    backoff = Backoff(0.02, 1.0, lambda: next(rest))
    for attempt, draw in enumerate(draws):
        bound = min(1.0, 0.02 * 2**attempt)
        pause = backoff.pause()
        assert bound * 0.1 <= pause <= bound
        assert abs(pause - bound * (0.1 + 0.9 * draw)) < 1e-9


def test_a_success_begins_anew():
    backoff = Backoff(0.02, 1.0, lambda: 1.0)
    assert [backoff.pause() for _ in range(8)][-1] == 1.0
    backoff.reset()
    assert backoff.pause() == 0.02
