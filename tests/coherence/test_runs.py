"""Short runs: several processes, faults, and no violation; controls and mutants that are caught.

`./dev bench coherence` plays all faults on all topologies, for as long as it is told.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.coherence.faults import FAULTS, TOPOLOGIES, faults_of
from tests.coherence.mutants import MUTANTS
from tests.coherence.run import Run, judged_again, of_mutant, play

pytestmark = pytest.mark.server

SHORT = Run(before=0.3, during=1.2, hold=1.2, after=0.3, bound=0.5)
REGISTERS = {"registers": 6, "strong": 2, "loaded": 0, "tags": 0}
CONTROL = replace(SHORT, layout=REGISTERS)

SEEN = [
    ("standalone", "client-flicker"),
    ("standalone", "black-hole"),
    ("ring", "server-restart"),
    ("sentinel", "connections-kill"),
    ("disk", "client-stop"),
]


@pytest.mark.parametrize(("topology", "fault"), SEEN)
async def test_no_run_shows_a_violation(topology, fault, tmp_path):
    run = replace(SHORT, topology=topology, fault=fault)
    verdict = await play(run, tmp_path)
    assert verdict.violations == {}, "\n".join(verdict.examples)
    assert verdict.reads_in_faults > 300
    assert verdict.undecided == 0


async def test_a_toy_near_cache_is_caught_and_its_staleness_measured(tmp_path):
    run = replace(CONTROL, subject="toy", settings={"late": 0.7}, during=1.7)
    verdict = await play(run, tmp_path)
    assert verdict.violations["I2"] > 0
    assert 0.5 < verdict.worst_staleness < 1.5  # about the delay, on a machine that is busy
    assert verdict.near_share > 0.5


async def test_reads_from_a_replica_are_caught(tmp_path):
    run = replace(CONTROL, subject="replica", topology="replica")
    verdict = await play(run, tmp_path)
    assert verdict.violations["I4"] > 0
    assert verdict.violations["I8"] > 0


MISSED = [
    "disk-drops-nothing",
    "near-lost-connection-keeps",
    "near-marks-survive",
    "near-expiry-ignored",
    "redis-fills-without-token",
]


@pytest.mark.parametrize("name", MISSED)
async def test_a_missing_guard_is_noticed(name, tmp_path):
    run = of_mutant(name, before=0.2, during=1.2, after=0.2, bound=0.5)
    verdict = await play(run, tmp_path)
    assert MUTANTS[name].noticed & verdict.violations.keys()
    assert judged_again(tmp_path) == verdict  # from what was kept


def test_each_mutant_names_a_fault_of_its_topology():
    for mutant in MUTANTS.values():
        assert mutant.topology in FAULTS[mutant.fault].topologies


def test_each_topology_has_faults():
    assert all(len(faults_of(topology)) > 3 for topology in TOPOLOGIES)
