"""A circuit breaker in front of a backend changes nothing as long as it is closed."""

import pytest

from clusterdb.cache import BreakerConfig
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.circuit import Circuit, GuardedBackend
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.conformance import CLAUSES, Clause, Harness, run


class GuardedHarness(Harness):
    def __init__(self, inner: MemoryBackend, clock: ManualClock) -> None:
        circuit = Circuit("backend", BreakerConfig(), clock.now, lambda *_: None)
        super().__init__(GuardedBackend(inner, circuit), clock)
        self.inner = inner

    async def settle(self) -> None:
        self.inner.sweep()


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_a_guarded_backend(clause: Clause):
    clock = ManualClock()
    await run(clause, GuardedHarness(MemoryBackend(clock), clock))
