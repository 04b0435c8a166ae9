"""What PostgreSQL has to do for us, counted by itself: it stays the same as tables grow."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from clusterdb.cache import PostgreSQL
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, Storage

LINES = (
    "INSERT INTO cache_storage_outbox (region, keys, row_versions) "
    "SELECT 'main', ARRAY['old'], ARRAY[number] FROM generate_series(1, 20000) AS number"
)
READ = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'cache_storage_outbox'"
IN_PLACE = (
    "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'cache_storage'"
)


def put(key: str) -> RowChange:
    return RowChange("main", key, Encoded(b"value", 5))


@pytest.fixture
async def storage(database: str) -> AsyncIterator[Storage]:
    made = make_storage(PostgreSQL(url=database), SystemClock(), "us")
    await made.open()
    yield made
    await made.aclose()


async def test_a_look_at_the_changes_reads_none_that_were_told(storage: Storage, database: str):
    admin = await asyncpg.connect(database)
    await admin.execute(LINES)
    position = await storage.position()
    before = await admin.fetchval(READ)
    for _ in range(3):
        assert await storage.changes(position, 100) == ([], position)
    await storage.aclose()  # its sessions tell what they have read

    assert await admin.fetchval(READ) == before
    await admin.close()


async def test_a_row_that_is_written_again_touches_no_index(storage: Storage, database: str):
    for _ in range(100):
        await storage.write([put("a"), put("b")])
    await storage.aclose()

    admin = await asyncpg.connect(database)
    written, in_place = await admin.fetchrow(IN_PLACE)
    await admin.close()
    assert written == 198
    assert in_place > 0.9 * written


async def test_a_group_is_one_line_of_the_outbox(storage: Storage, database: str):
    """And all rows that a clear removes are a few, of a size that a reader can take."""
    position = await storage.position()
    rows = [put(f"key:{number:04}") for number in range(2_500)]
    await storage.write(rows)
    await storage.clear(["main"])

    admin = await asyncpg.connect(database)
    sizes = await admin.fetch("SELECT cardinality(keys) FROM cache_storage_outbox ORDER BY id")
    await admin.close()
    written, *removed = [size for [size] in sizes]
    assert (written, sum(removed)) == (2_500, 2_500)
    assert max(removed) <= 1_000

    told: dict[str, list[int]] = {}
    while len(told) < 2_500 or min(map(len, told.values())) < 2:
        changes, position = await storage.changes(position, 700)
        assert changes
        for change in changes:
            told.setdefault(change.key, []).append(change.version)
    assert told == {row.key: [1, 2] for row in rows}
