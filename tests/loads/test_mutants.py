"""Each guard of the loads, removed, is noticed: what is never missed was never tested."""

import pytest
from tests.loads.mutants import MUTANTS, apply
from tests.loads.scenarios import SCENARIOS
from tests.loads.world import play

from clusterdb.cache import claims, table
from clusterdb.cache.loading import loads

SEEDS = 1000

COMPILED = not all(str(module.__file__).endswith(".py") for module in (claims, table, loads))


@pytest.mark.skipif(COMPILED, reason="compiled modules can't be patched")
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_it_is_caught(mutant):
    scenario = SCENARIOS[mutant.caught_by]
    for seed in range(SEEDS):
        with pytest.MonkeyPatch.context() as patch:
            apply(mutant, patch)
            found = play(scenario, seed)
        if found and not play(scenario, seed):
            return
    pytest.fail(f"{mutant.name!r} survived {SEEDS} runs of {mutant.caught_by!r}")
