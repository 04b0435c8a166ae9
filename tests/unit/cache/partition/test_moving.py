"""Nothing is lost while a key of a ring moves, and nothing old comes back, whoever stops when.

The stories of `golden/moving.json` were found by playing at random, or made up, and shortened: each
goes wrong if its guard is left out, and well if it is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.cache.partition.moving import MUTANTS, Fault, World

Schedule: TypeAlias = list[tuple[str, int]]

STORIES = json.loads(Path(__file__).with_name("golden").joinpath("moving.json").read_text())
TURNS = st.sampled_from(["begin"] * 5 + ["kill"] + ["step"] * 14)


def play(world: World, schedule: Schedule) -> None:
    for what, number in schedule:
        getattr(world, what)(number)
    world.finish()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(TURNS, st.integers(0, 99)), max_size=150), st.booleans())
def test_what_is_read_is_what_was_last_written(schedule, begun):
    play(World(begun=begun), schedule)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_guard_is_needed(mutant):
    begun, story = STORIES[mutant]["begun"], STORIES[mutant]["story"]
    turns = [turn.partition(":") for turn in story.split()]
    schedule = [(what, int(number)) for what, _, number in turns]

    play(World(begun=begun), schedule)
    with pytest.raises(Fault):
        play(World(mutant, begun=begun), schedule)
