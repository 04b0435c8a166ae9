"""Nothing is lost while a key of a ring moves, and nothing old comes back, whoever stops when."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cache.partition.moving import MUTANTS, Fault, World

SCHEDULE = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 99)), max_size=150)


def play(world: World, schedule: list[tuple[int, int]]) -> None:
    for what, which in schedule:
        if what < 5:
            world.begin(which)
        elif what == 5:
            world.kill(which)
        else:
            world.step(which)
    world.finish()


@settings(max_examples=400)
@given(SCHEDULE)
def test_what_is_read_is_what_was_last_written(schedule):
    play(World(), schedule)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_guard_is_needed(mutant):
    chance = random.Random(mutant)
    with pytest.raises(Fault):
        for _ in range(60_000):
            length = chance.randrange(20, 200)
            play(
                World(mutant),
                [(chance.randrange(20), chance.randrange(100)) for _ in range(length)],
            )
