"""A circuit breaker: when it opens, whom it lets through, and when it closes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusterdb.cache import BreakerConfig, ConfigError
from clusterdb.cache.breaker import Breaker


def breaker(**settings: object) -> Breaker:
    return Breaker(BreakerConfig(**settings))  # type: ignore[arg-type]


def state(circuit: Breaker) -> str:
    return circuit.state


def call(circuit: Breaker, now: float, *, works: bool) -> bool:
    """One call; whether it was made."""
    if not circuit.admits(now):
        return False
    (circuit.succeeded if works else circuit.failed)(now)
    return True


def opened(**settings: object) -> Breaker:
    """One that opened at 0."""
    circuit = breaker(failures=1, pause=5, **settings)
    call(circuit, 0.0, works=False)
    assert state(circuit) == "open"
    return circuit


def test_so_many_failures_in_a_row_open_it():
    circuit = breaker(failures=3, pause=5)
    for works in (False, False, True, False, False):
        assert call(circuit, 1.0, works=works)
    assert state(circuit) == "closed"
    assert call(circuit, 1.0, works=False)
    assert (circuit.state, circuit.in_row, circuit.opened) == ("open", 3, 1)
    assert not call(circuit, 2.0, works=True)
    assert (circuit.refused, circuit.retry_in(2.0)) == (1, 4.0)


def test_a_share_of_failures_opens_it():
    circuit = breaker(failures=100, share=0.5, calls=10, window=10)
    for number in range(9):
        call(circuit, 1.0, works=number % 2 == 0)
    assert state(circuit) == "closed", "of too few calls a share says nothing"
    call(circuit, 1.0, works=False)
    assert state(circuit) == "open"


def test_failures_older_than_the_window_do_not_count():
    circuit = breaker(failures=100, share=0.5, calls=10, window=10)
    for _ in range(9):
        call(circuit, 1.0, works=False)
    call(circuit, 11.5, works=False)
    assert state(circuit) == "closed"
    for _ in range(9):
        call(circuit, 16.0, works=False)  # the next half: those of the one before it count
    assert state(circuit) == "open"


def test_after_its_pause_so_many_are_let_through_and_decide():
    circuit = opened(probes=2)
    assert not circuit.admits(4.9)
    assert [circuit.admits(5.0) for _ in range(3)] == [True, True, False]
    assert state(circuit) == "half_open"
    circuit.succeeded(5.1)
    assert state(circuit) == "half_open"
    circuit.succeeded(5.2)
    assert state(circuit) == "closed"
    assert circuit.admits(5.3)


def test_a_probe_that_fails_opens_it_again():
    circuit = opened()
    assert call(circuit, 5.0, works=False)
    assert (circuit.state, circuit.opened, circuit.retry_in(5.0)) == ("open", 2, 5.0)


def test_a_probe_that_was_cancelled_makes_room_for_another():
    circuit = opened()
    assert circuit.admits(5.0)
    assert not circuit.admits(5.0)
    circuit.left()
    assert circuit.admits(5.0)


def test_probes_that_are_not_heard_of_are_replaced_after_a_pause():
    circuit = opened()
    assert circuit.admits(5.0)
    assert not circuit.admits(9.9)
    assert circuit.admits(10.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_it_is_never_shut_for_ever_and_never_refuses_while_closed(steps):
    """Whatever happens: closed admits; open admits after its pause; a run of successes closes."""
    circuit, now = breaker(failures=3, calls=5, window=4, pause=2, probes=2), 0.0
    for passed, works in steps:
        now += passed
        closed = state(circuit) == "closed"
        made = call(circuit, now, works=works)
        assert made or not closed
        assert 0 <= circuit.retry_in(now) <= 2 + 1e-9
    now += 2
    for _ in range(2):
        assert call(circuit, now, works=True)
    assert state(circuit) == "closed"


@pytest.mark.parametrize("settings", [{"share": 0}, {"window": 0}, {"pause": 0}, {"probes": 0}])
def test_settings_without_sense_are_refused(settings: dict[str, object]):
    with pytest.raises(ConfigError):
        breaker(**settings)
