"""The embedded backend keeps every clause of the contract, and its structure is sound after it."""

import pytest

from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.protocols import Backend
from clusterdb.cache.testing import FaultyBackend, ManualClock, validate_backend
from clusterdb.cache.testing.conformance import CLAUSES, TRAITS, Clause, Harness, run


class MemoryHarness(Harness):
    backend: MemoryBackend

    async def settle(self) -> None:
        while self.backend.sweep():
            pass


class FaultyHarness(Harness):
    """Time and sweeps are those of the backend inside."""

    def __init__(self, inner: MemoryBackend, clock: ManualClock) -> None:
        super().__init__(FaultyBackend(inner), clock)
        self.inner = inner

    async def settle(self) -> None:
        while self.inner.sweep():
            pass


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_the_memory_backend(clause: Clause):
    clock = ManualClock()
    backend = MemoryBackend(clock)
    harness = MemoryHarness(backend, clock)
    assert harness.offers(clause.needs)

    await run(clause, harness)

    validate_backend(backend)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_its_faulty_twin_without_a_fault(clause: Clause):
    clock = ManualClock()
    inner = MemoryBackend(clock)
    harness = FaultyHarness(inner, clock)
    if not harness.offers(clause.needs):
        assert clause.needs - harness.traits - inner.capabilities == set()
        pytest.skip("it offers no table")

    await run(clause, harness)

    validate_backend(inner)


def test_each_clause_has_a_rule_and_a_name_of_its_own():
    assert all(clause.rule.endswith(".") for clause in CLAUSES)
    assert len({clause.name for clause in CLAUSES}) == len(CLAUSES)
    needed = set().union(*[clause.needs for clause in CLAUSES])
    backend: Backend = MemoryBackend(ManualClock())
    assert needed <= backend.capabilities | TRAITS
