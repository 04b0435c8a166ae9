"""SQLite keeps every clause of the contract."""

from pathlib import Path

import pytest

from clusterdb.cache import SQLite
from clusterdb.cache.factory import make_storage
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.storage import CLAUSES, Clause, Harness, run


def harness(path: Path) -> Harness:
    clock = ManualClock()
    return Harness(lambda origin: make_storage(SQLite(path=path), clock, origin), clock)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_sqlite(clause: Clause, tmp_path: Path):
    under_test = harness(tmp_path / "storage.db")
    if not under_test.offers(clause.needs):
        assert clause.needs & {"objects"}
        pytest.skip("it encodes")

    await run(clause, under_test)
