"""PostgreSQL keeps every clause of the contract."""

import asyncpg
import pytest

from clusterdb.cache import PostgreSQL
from clusterdb.cache.factory import make_storage
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.storage import CLAUSES, Clause, Harness, run

MOVE = """
UPDATE cache_storage SET expires_at = expires_at - $1 * interval '1 second',
    updated_at = updated_at - $1 * interval '1 second'
"""
MOVE_OUTBOX = "UPDATE cache_storage_outbox SET changed_at = changed_at - $1 * interval '1 second'"


class PostgresHarness(Harness):
    """Time passes by moving what is stored into the past."""

    def __init__(self, url: str) -> None:
        clock = ManualClock()
        super().__init__(lambda origin: make_storage(PostgreSQL(url=url), clock, origin), clock)
        self.url = url

    async def advance(self, seconds: float) -> None:
        connection = await asyncpg.connect(self.url)
        await connection.execute(MOVE, seconds)
        await connection.execute(MOVE_OUTBOX, seconds)
        await connection.close()


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_postgres(clause: Clause, database: str):
    under_test = PostgresHarness(database)
    if not under_test.offers(clause.needs):
        assert clause.needs & {"objects"}
        pytest.skip("it encodes")

    await run(clause, under_test)
