"""What is taken, what is left, and what a leader that was replaced may store: nothing."""

import pytest

from clusterdb.cache import CacheError
from clusterdb.cache.maintenance.state import (
    HISTORY,
    Leader,
    LostLease,
    MaintenanceRun,
    MaintenanceState,
    Wanted,
)

FIRST, SECOND = Leader("1", "first"), Leader("2", "second")


def led(leader: Leader = FIRST) -> MaintenanceState:
    return MaintenanceState().led_by(leader)


def test_a_due_time_is_taken_when_its_run_begins():
    state = led().anchored("1", "plan", 100.0)

    assert state.begun("1", "plan", ["a"], 160.0, 161.0).covered == {"plan": 161.0}
    assert state.begun("1", "plan", ["a"], 160.0, 90.0).covered == {"plan": 160.0}


@pytest.mark.parametrize(
    ("covered", "now", "moment"),
    [(None, 100.0, 100.0), (50.0, 100.0, None), (3_700.0, 100.0, None), (100_000.0, 100.0, 100.0)],
)
def test_a_clock_that_was_far_ahead_is_forgotten_one_set_back_an_hour_is_not(covered, now, moment):
    state = MaintenanceState() if covered is None else MaintenanceState(covered={"plan": covered})

    assert state.anchor("plan", now) == moment


def test_what_a_replaced_leader_would_store_is_refused():
    state = led().anchored("1", "plan", 0.0).begun("1", "plan", ["a"], 10.0, 10.0)
    run, state = state.runs["plan"], state.led_by(SECOND)

    for change in (
        lambda: state.renewed("1"),
        lambda: state.anchored("1", "plan", 1.0),
        lambda: state.begun("1", "plan", ["a"], 20.0, 20.0),
        lambda: state.taken_up("1", "plan"),
        lambda: state.progressed("1", run),
        lambda: state.ended("1", run, 30.0),
    ):
        with pytest.raises(LostLease):
            change()
    assert state.resigned("1") == state


def test_a_run_that_was_interrupted_is_taken_up_by_the_next_leader():
    state = led().begun("1", "plan", ["a", "b"], 10.0, 10.0).led_by(SECOND).taken_up("2", "plan")

    assert (state.runs["plan"].by, state.runs["plan"].resumed) == ("second", 1)


def test_a_job_goes_on_in_the_next_run_from_where_its_time_was_over():
    state = led().begun("1", "plan", ["a", "b"], 10.0, 10.0)
    run = state.runs["plan"]
    [first, second] = run.jobs
    run = run.with_job(type(first)(job="a", outcome="out of time", cursor="half"))
    run = run.with_job(type(second)(job="b", outcome="done"))
    state = state.ended("1", run, 12.0)
    assert state.history[-1].outcome == "out of time"

    again = state.begun("1", "plan", ["a", "b"], 20.0, 20.0).runs["plan"]

    assert [job.cursor for job in again.jobs] == ["half", ""]
    assert state.ended("1", again.with_job(type(first)(job="a", outcome="done")), 22.0).left == {}


def test_jobs_that_were_asked_for_run_and_no_others():
    state = led().asked("plan", Wanted("7", "somebody", ("b",), {"threshold": 0.5}))

    state = state.begun("1", "plan", ["a", "b"], None, 10.0)

    run = state.runs["plan"]
    assert ([job.job for job in run.jobs], run.request, run.asked) == (["b"], "7", True)
    assert run.options == {"threshold": 0.5}
    assert (state.wanted, state.covered) == ({}, {})


def test_two_who_ask_for_the_same_share_a_run_and_others_wait():
    state = led().asked("plan", Wanted("7", "somebody"))

    assert state.asked("plan", Wanted("8", "another")).requests == {"7"}
    with pytest.raises(CacheError, match="another run was asked for by somebody"):
        state.asked("plan", Wanted("9", "another", ("b",)))
    begun = state.begun("1", "plan", ["a"], None, 10.0)
    assert begun.asked("plan", Wanted("9", "another", ("b",))).requests == {"7", "9"}


def test_the_history_is_bounded():
    state = led()
    for number in range(HISTORY + 5):
        run = MaintenanceRun(plan="plan", due=float(number), began=0, by="first", jobs=())
        state = state.ended("1", run, 1.0)

    assert len(state.history) == HISTORY
    assert state.history[-1].due == HISTORY + 4
