"""The timer wheel gives back what a list of deadlines would, with bounded work."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builds import needs_pure

from clusterdb.cache.entries import Entry
from clusterdb.cache.testing.validate import _filed, _validate_slot
from clusterdb.cache.types import FOREVER
from clusterdb.cache.wheel import TimerWheel

START = 1000.0
WIDTH, LEVELS = 64, 5

delays = st.one_of(
    st.floats(-10, 200),
    st.integers(0, 5000).map(float),
    st.floats(0, 1e6),
    st.floats(1e8, 1e10),
    st.sampled_from([63.0, 64.0, 65.0, 4095.0, 4096.0, 2.0**18, 2.0**24, 2.0**30, 2.0**31]),
    st.just(FOREVER),
)
jumps = st.one_of(
    st.floats(0, 3),
    st.integers(0, 200).map(float),
    st.sampled_from([64.0, 4096.0, 2.0**18, 2.0**24, 2.0**30]),
    st.floats(0, 1e9),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), delays),
        st.tuples(st.just("remove"), st.integers(0, 50)),
        st.tuples(st.just("advance"), jumps),
        st.tuples(st.just("advance by 2"), jumps),
    ),
    max_size=60,
)


def entry(deadline: float, key: str = "k") -> Entry:
    made = Entry(key, None)
    made.deadline = deadline
    return made


def is_due(deadline: float, now: float) -> bool:
    return math.floor(deadline) + 1 <= math.floor(now)


def validate(wheel: TimerWheel, expected: Iterable[Entry]) -> None:
    filed = list(_filed(wheel))
    assert {id(found) for _, found in filed} == {id(found) for found in expected}
    assert len(filed) == len(wheel)
    for slot, found in filed:
        _validate_slot(wheel._second, slot, found, found.deadline)


@given(steps)
def test_it_gives_back_what_a_list_would(steps):
    now = START
    wheel = TimerWheel(now)
    model: list[Entry] = []
    for step, amount in steps:
        if step == "add":
            added = entry(now + amount)
            wheel.add(added, added.deadline)
            if added.deadline != FOREVER:
                model.append(added)
        elif step == "remove":
            if model:
                wheel.remove(model.pop(int(amount) % len(model)))
        else:
            now += amount
            limit = 2 if step == "advance by 2" else 1000
            due = [found for found in model if is_due(found.deadline, now)]
            given_back = wheel.advance(now, 0.0, limit)
            assert len(given_back) <= limit
            if not wheel.pending:  # it looked at all; else some may have been filed anew
                assert len(given_back) == len(due)
            assert {id(found) for found in given_back} <= {id(found) for found in due}
            model = [found for found in model if all(found is not back for back in given_back)]
        validate(wheel, model)


@given(st.lists(st.floats(0, 1e10), max_size=30), st.floats(0, 1e4))
def test_grace_moves_every_deadline(deadlines, grace):
    wheel = TimerWheel(0.0)
    entries = [entry(deadline) for deadline in deadlines]
    for added in entries:
        wheel.add(added, added.deadline + grace)
    for now in (1.0, 100.0, 1e5, 1e9, 1.1e10):
        for back in wheel.advance(now, grace, 1000):
            assert is_due(back.deadline + grace, now)
            entries.remove(back)
        assert not [left for left in entries if is_due(left.deadline + grace, now)]
    assert entries == []


@pytest.mark.parametrize("step", [0.25, 1.0, 63.0, 64.0, 4095.0])
def test_nothing_is_early_and_nothing_is_a_second_late(step):
    wheel = TimerWheel(START)
    for number in range(500):
        added = entry(START + number * step / 7)
        wheel.add(added, added.deadline)
    now, back = START, []
    while len(wheel):
        before, now = now, now + step
        for found in wheel.advance(now, 0.0, 10_000):
            assert found.deadline < now
            assert not is_due(found.deadline, before)
            back.append(found)
    assert len(back) == 500


def test_time_that_stands_still_or_goes_back_gives_nothing():
    wheel = TimerWheel(START)
    wheel.add(entry(START + 1), START + 1)

    assert wheel.advance(START, 0.0, 10) == []
    assert wheel.advance(START - 500, 0.0, 10) == []
    assert len(wheel.advance(START + 2, 0.0, 10)) == 1


def test_what_is_past_already_comes_with_the_next_advance():
    wheel = TimerWheel(START)
    past = entry(START - 100)
    wheel.add(past, past.deadline)

    assert wheel.advance(START, 0.0, 10) == [past]
    assert past.slot is None


def test_removing_twice_is_once():
    wheel = TimerWheel(START)
    one, other = entry(START + 5, "one"), entry(START + 5, "other")
    for added in (one, other):
        wheel.add(added, added.deadline)
    wheel.remove(one)
    wheel.remove(one)

    validate(wheel, [other])


class CountingSlots(list):
    looks = 0

    def __getitem__(self, index):
        self.looks += 1
        return super().__getitem__(index)


class CountingWheel(TimerWheel):
    filings = 0

    def _file(self, entry, due):
        self.filings += 1
        super()._file(entry, due)


@needs_pure
def test_a_hundred_thousand_in_one_second_are_given_back_in_bounded_steps():
    wheel = CountingWheel(START)
    entries = [entry(START + 5000.5) for _ in range(100_000)]
    for added in entries:
        wheel.add(added, added.deadline)
    sizes = []
    now = START
    while len(wheel):
        now += 1000
        sizes += [len(wheel.advance(now, 0.0, 1000)) for _ in range(30)]

    assert max(sizes) == 1000
    assert sum(sizes) == 100_000
    assert wheel.filings <= (1 + LEVELS) * 100_000


@needs_pure
def test_an_advance_looks_at_no_more_than_it_may_whatever_is_due():
    wheel = CountingWheel(START)
    for _ in range(10_000):
        wheel.add(entry(START + 300.5), START + 300.5)
    wheel.filings = 0
    now = START
    for _ in range(20):
        now += 16
        given = len(wheel.advance(now, 0.0, 16))
        assert given + wheel.filings <= 16
        wheel.filings = 0


@pytest.mark.parametrize("jump", [1.0, 64.0, 1e4, 1e6, 1e8, 1e10])
def test_a_jump_looks_at_few_slots(jump):
    wheel = TimerWheel(START)
    slots = wheel._slots = CountingSlots(wheel._slots)
    wheel.add(entry(START + 2e10), START + 2e10)
    slots.looks = 0
    wheel.advance(START + jump, 0.0, 10)

    assert slots.looks <= WIDTH * LEVELS + 10


@needs_pure
def test_an_entry_is_filed_at_most_once_a_level():
    wheel = CountingWheel(0.0)
    last = 64.0**LEVELS / 2
    wheel.add(entry(last), last)
    now = 0.0
    while not wheel.advance(now, 0.0, 1):
        now += 2.0**16

    assert wheel.filings <= 1 + LEVELS
