"""The Redis backend keeps every clause of the contract: one server, Cluster, ring, Valkey."""

from __future__ import annotations

import asyncio

import pytest
from tests.redis.backends import flush, make_backend
from tests.redis.servers import Deployment

from clusterdb.cache.backends.redis import RedisBackend
from clusterdb.cache.testing import EncodingBackend, ManualClock
from clusterdb.cache.testing.conformance import CLAUSES, MAIN, OTHER, TRAITS, Clause, Harness, run

LEFT_TO_SERVERS = {"exact_time", "limits", "weighers", "sizes", "tag_counts"}
NOT_OFFERED = LEFT_TO_SERVERS | {"objects", "immediate", "near", "persistent"}


class RedisHarness(Harness):
    """Time is the server's, and passes by itself."""

    traits = TRAITS - LEFT_TO_SERVERS
    unit = 0.05
    slack = 2.5

    def __init__(self, inner: RedisBackend) -> None:
        super().__init__(EncodingBackend(inner), ManualClock())

    async def advance(self, units: float) -> None:
        await asyncio.sleep(units * self.unit)


async def prove(clause: Clause, deployment: Deployment, *, one_slot: bool) -> None:
    backend = make_backend(deployment)
    harness = RedisHarness(backend)
    if not harness.offers(clause.needs):
        assert clause.needs & NOT_OFFERED
        pytest.skip("left to the server")
    if one_slot:
        backend._names._prefixes |= {name: f"{{main}}:{name}:" for name in (MAIN, OTHER)}
    flush(deployment)
    await run(clause, harness)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_one_server(clause: Clause, standalone: Deployment):
    await prove(clause, standalone, one_slot=False)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_a_cluster(clause: Clause, cluster: Deployment):
    """A commit needs keys of one slot; all other clauses spread them."""
    await prove(clause, cluster, one_slot="atomic" in clause.needs)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_a_ring(clause: Clause, ring: Deployment):
    """With one copy of each key, as with a Cluster."""
    await prove(clause, ring, one_slot="atomic" in clause.needs)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_valkey(clause: Clause, valkey: Deployment):
    """One server of another kind."""
    await prove(clause, valkey, one_slot=False)
