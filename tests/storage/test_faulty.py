"""The faulty twin fails as it is told, and is else the storage it wraps."""

import asyncio
from pathlib import Path

import pytest

from clusterdb.cache import SQLite
from clusterdb.cache.errors import OutcomeUnknown, StorageUnavailable
from clusterdb.cache.factory import make_storage
from clusterdb.cache.testing import FaultyStorage, ManualClock
from clusterdb.cache.testing.storage import CLAUSES, Clause, Harness, run


def harness(path: Path) -> Harness:
    clock = ManualClock()
    config = SQLite(path=path)
    return Harness(lambda origin: FaultyStorage(make_storage(config, clock, origin)), clock)


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_whole_it_keeps_the_contract(clause: Clause, tmp_path: Path):
    under_test = harness(tmp_path / "storage.db")
    if under_test.offers(clause.needs):
        await run(clause, under_test)


async def test_it_fails_before_or_after(tmp_path: Path):
    h = harness(tmp_path / "storage.db")
    storage = h.storage
    assert isinstance(storage, FaultyStorage)
    await h.start()
    storage.fail("write", times=1)
    with pytest.raises(StorageUnavailable):
        await h.one(h.put("k", 1))
    assert await h.row("k") is None
    storage.fail("write", times=1, after=True)
    with pytest.raises(OutcomeUnknown):
        await h.one(h.put("k", 1))
    assert (await h.found("k")).version == 1
    storage.fail()
    with pytest.raises(StorageUnavailable):
        await storage.position()
    storage.heal()
    gate = storage.hold("read")
    reading = asyncio.ensure_future(h.found("k"))
    await asyncio.sleep(0)
    assert not reading.done()
    gate.set()
    assert (await reading).version == 1
    with pytest.raises(ValueError, match="no method 'reed'"):
        storage.fail("reed")
    await h.stop()
