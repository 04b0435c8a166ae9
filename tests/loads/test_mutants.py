"""Each guard of the loads, removed, is noticed: what is never missed was never tested."""

import pytest
from tests.builds import needs_pure
from tests.loads.mutants import MUTANTS, apply
from tests.loads.scenarios import SCENARIOS
from tests.loads.world import play

SEEDS = 1000


@needs_pure
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
