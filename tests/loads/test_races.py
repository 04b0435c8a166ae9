"""Loads against everything that may happen to their keys meanwhile, over many seeded schedules.

Each scenario is played with sixty seeds or more; ``CLUSTERDB_SEEDS=20`` plays twenty times as
many.
A failure names its seeds: ``play(SCENARIOS[name], seed)`` shows it again.
"""

import os

import pytest
from tests.loads.scenarios import SCENARIOS
from tests.loads.world import play

SEEDS = 60 * int(os.environ.get("CLUSTERDB_SEEDS", "1"))
MORE = {"race_any": 4, "race_learnt_tag": 2, "overlapping": 4, "impatient": 2, "race_negative": 2}


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_nothing_is_found_in(name):
    found = {}
    for seed in range(SEEDS * MORE.get(name, 1)):
        troubles = play(SCENARIOS[name], seed)
        if troubles:
            found[seed] = troubles
        if len(found) == 3:
            break
    assert not found
