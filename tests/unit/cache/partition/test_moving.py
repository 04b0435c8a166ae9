"""Nothing is lost while a key of a ring moves, and nothing old comes back, whoever stops when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cache.partition.moving import MUTANTS, Fault, World

SCHEDULE = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 99)), max_size=150)

READS_WRITES_MOVES = [0, 1, 6, 7]
EMPTIES = [12, 13]


def play(world: World, schedule: list[tuple[int, int]]) -> None:
    for what, which in schedule:
        if what < 5:
            world.begin(which)
        elif what == 5:
            world.kill(which)
        else:
            world.step(which)
    world.finish()


@settings(max_examples=300, deadline=None)
@given(SCHEDULE, st.booleans())
def test_what_is_read_is_what_was_last_written(schedule, begun):
    play(World(begun=begun), schedule)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_guard_is_needed(mutant):
    with pytest.raises(Fault):
        search(mutant, 60_000)


def search(mutant: str, most: int) -> None:
    """Play schedules of several kinds, until one shows a fault."""
    chance = random.Random(mutant)
    kinds = [range(100), READS_WRITES_MOVES, [*READS_WRITES_MOVES, *EMPTIES]]
    for number in range(most):
        begins = kinds[number % len(kinds)]
        schedule = [
            (what, chance.choice(begins) if what < 5 else chance.randrange(100))
            for what in [chance.randrange(20) for _ in range(chance.randrange(20, 120))]
        ]
        play(World(mutant, begun=number % 2 == 0), schedule)
