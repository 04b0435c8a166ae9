"""The twin that encodes keeps every clause over a backend that is given bytes."""

import pytest
from tests.encoding import BytesBackend

from clusterdb.cache.testing import EncodingBackend, ManualClock
from clusterdb.cache.testing.conformance import CLAUSES, TRAITS, Clause, Harness, run


class BytesHarness(Harness):
    traits = TRAITS - {"weighers"}

    def __init__(self, inner: BytesBackend, clock: ManualClock) -> None:
        super().__init__(EncodingBackend(inner), clock)
        self.inner = inner

    async def settle(self) -> None:
        while self.inner.sweep():
            pass


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_a_backend_that_is_given_bytes(clause: Clause):
    clock = ManualClock()
    inner = BytesBackend(clock)
    harness = BytesHarness(inner, clock)
    if not harness.offers(clause.needs):
        assert clause.needs & {"objects", "near", "weighers"}
        pytest.skip("it keeps no objects, weighs none, and offers no table")

    await run(clause, harness)

    assert inner.owed == {}
