"""Spans round the calls of a backend change nothing of what it does."""

import pytest
from tests.tracing import Traced

from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.conformance import CLAUSES, Clause, Harness, run
from clusterdb.cache.traced import TracedBackend, Tracing
from clusterdb.tracing import Tracer


class TracedHarness(Harness):
    def __init__(self, inner: MemoryBackend, clock: ManualClock, traced: Traced) -> None:
        tracing = Tracing("test")
        tracing.tracer = Tracer(provider=traced.provider)
        super().__init__(TracedBackend(inner, tracing), clock)
        self.inner = inner

    async def settle(self) -> None:
        self.inner.sweep()


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_a_traced_backend(clause: Clause):
    clock = ManualClock()
    await run(clause, TracedHarness(MemoryBackend(clock), clock, Traced()))
