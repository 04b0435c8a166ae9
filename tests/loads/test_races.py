"""Loads against everything that may happen to their keys meanwhile, over many seeded schedules.

Each scenario is played with sixty seeds or more, by ``CLUSTERDB_EFFORT``.
A failure names its seeds: ``play(SCENARIOS[name], seed)`` shows it again.
"""

import pytest
from tests.effort import times
from tests.loads.scenarios import SCENARIOS
from tests.loads.world import play

SEEDS = times(60)
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
