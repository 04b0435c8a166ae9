"""What goes wrong with a SQLite file, and what callers are told."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from clusterdb.cache import SQLite
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import ConfigError, RowRefused, StorageUnavailable
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, RowWritten, Storage
from clusterdb.cache.types import MISSING


def put(key: str, value: str = "v", **options: Any) -> RowChange:
    return RowChange("main", key, Encoded(value.encode(), 5), **options)


@asynccontextmanager
async def opened(path: Path, **settings: Any) -> AsyncIterator[Any]:
    storage = make_storage(SQLite(path=path, **settings), SystemClock(), "us")
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


async def value(storage: Storage, key: str) -> str | None:
    [row] = await storage.read("main", [key])
    return None if row is None else row.value.payload.decode()


async def told(storage: Storage, position: str) -> list[tuple[str, int, str]]:
    changes, _ = await storage.changes(position, 100)
    return [(change.key, change.version, change.origin) for change in changes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "storage.db"


async def test_a_lock_that_is_held_for_long_is_told(path: Path):
    async with opened(path, timeout=0.1) as storage:
        await storage.write([put("k")])
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match=r"the write lock for over 0\.1 s"):
                await storage.write([put("k", "w")])
            assert await value(storage, "k") == "v"  # readers don't wait
            other.execute("ROLLBACK")
        await storage.write([put("k", "w")])
        assert await value(storage, "k") == "w"


async def test_a_short_lock_is_waited_for(path: Path):
    async with opened(path) as storage:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writing = asyncio.ensure_future(storage.write([put("k")]))
            await storage.read("main", ["k"])
            assert not writing.done()
            other.execute("ROLLBACK")
            await writing


async def test_a_full_disk_writes_nothing_and_recovers(path: Path):
    async with opened(path) as storage:
        await storage.write([put("k")])
        pages = await storage._writer.do(lambda it: it.execute("PRAGMA page_count").fetchone()[0])
        limit = "PRAGMA max_page_count = "
        await storage._writer.do(lambda it: it.execute(f"{limit}{pages + 2}"))
        big = "x" * 100_000
        with pytest.raises(StorageUnavailable, match="the disk is full; nothing was written"):
            await storage.write([put("k", "w"), put("big", big)])
        assert (await value(storage, "k"), await value(storage, "big")) == ("v", None)
        await storage._writer.do(lambda it: it.execute(f"{limit}1000000"))
        await storage.write([put("k", "w"), put("big", big)])
        assert await value(storage, "big") == big


async def test_a_refused_row_fails_alone(path: Path):
    async with opened(path) as storage:
        with closing(sqlite3.connect(path)) as other:
            other.execute(
                "CREATE TRIGGER no_secret BEFORE INSERT ON cache_storage "
                "WHEN new.key LIKE 'secret%' BEGIN SELECT raise(ABORT, 'no secrets'); END"
            )
        position = await storage.position()
        outcomes = await storage.write([put("a"), put("secret"), put("b")])
        assert isinstance(outcomes[1], RowRefused)
        assert "no secrets" in str(outcomes[1])
        assert isinstance(outcomes[1].__cause__, sqlite3.IntegrityError)
        assert await told(storage, position) == [("a", 1, "us"), ("b", 1, "us")]


async def test_before_the_commit_there_is_a_deadline(path: Path):
    async with opened(path, timeout=0.2) as storage:
        await storage.write([put("k")])

        async def forever(_: object) -> None:
            await asyncio.Event().wait()

        async def stopped(_: object) -> None:
            time.sleep(0.3)  # noqa: ASYNC251 - as if the process were stopped

        for late in (forever, stopped):
            with pytest.raises(StorageUnavailable, match=r"took longer than 0\.2 s"):
                await storage.write([put("k", "w")], before_commit=late)
            assert await value(storage, "k") == "v"
        await storage.write([put("k", "w")])
        assert await value(storage, "k") == "w"


async def test_a_cancelled_write_goes_to_its_end(path: Path):
    async with opened(path) as storage:
        reached, goes_on = asyncio.Event(), asyncio.Event()

        async def before(_: object) -> None:
            reached.set()
            await goes_on.wait()

        task = asyncio.ensure_future(storage.write([put("k")], before_commit=before))
        await reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        goes_on.set()
        await storage.aclose()  # waits for it
        await storage.open()
        assert await value(storage, "k") == "v"


def test_another_loop_opens_it_again(path: Path):
    storage: Any = make_storage(SQLite(path=path), SystemClock())

    async def write(text: str) -> str | None:
        await storage.open()
        await storage.write([put("k", text)])
        return await value(storage, "k")

    assert asyncio.run(write("first")) == "first"
    assert asyncio.run(write("second")) == "second"
    asyncio.run(storage.aclose())


async def test_only_its_owner_may_read_a_file_that_was_made(path: Path):
    async with opened(path / "deep" / "storage.db"):
        assert (path / "deep" / "storage.db").stat().st_mode & 0o777 == 0o600


async def test_what_is_no_database_is_refused(path: Path):
    path.write_text("not a database " * 100, encoding="utf-8")
    with pytest.raises(ConfigError, match="is not a database"):
        async with opened(path):
            pass
    assert path.read_text(encoding="utf-8").startswith("not a database")


async def test_a_folder_that_cannot_be_made_is_told(path: Path):
    path.touch()
    with pytest.raises(StorageUnavailable, match="can't be made"):
        async with opened(path / "under" / "storage.db"):
            pass


async def test_another_programs_table_is_left_alone(path: Path):
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE cache_storage (id INTEGER, region TEXT)")
    with pytest.raises(ConfigError, match="is another program's"):
        async with opened(path):
            pass
    async with opened(path, table="mine") as storage:  # beside it there is room
        await storage.write([put("k")])


async def test_a_newer_schema_is_refused(path: Path):
    async with opened(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE cache_storage_meta SET schema_version = 99")
    with pytest.raises(ConfigError, match="newer release"):
        async with opened(path):
            pass


async def test_several_make_the_tables_at_once(path: Path):
    storages = [make_storage(SQLite(path=path), SystemClock()) for _ in range(6)]
    await asyncio.gather(*[storage.open() for storage in storages])
    await asyncio.gather(*[storage.aclose() for storage in storages])


async def test_a_database_that_was_set_back_is_noticed(path: Path):
    async with opened(path) as storage:
        await storage.write([put("k")])
    copy = path.read_bytes()
    async with opened(path) as storage:
        await storage.write([put("k"), put("l")])
        position = await storage.position()
    path.write_bytes(copy)
    async with opened(path) as storage:
        with pytest.raises(Exception, match="set back"):
            await storage.changes(position, 10)


# -- plain SQL


@pytest.fixture
async def watched(path: Path) -> AsyncIterator[tuple[Any, sqlite3.Connection]]:
    """A storage with triggers, and a connection of plain SQL."""
    async with opened(path) as storage:
        await storage.init(with_triggers=True)
        with closing(sqlite3.connect(path, isolation_level=None)) as plain:
            yield storage, plain


async def test_our_own_changes_are_told_once_with_triggers(watched: tuple[Any, Any]):
    storage, _ = watched
    position = await storage.position()
    await storage.write([put("a")])
    await storage.write([put("a", "w"), put("b")])
    await storage.write([RowChange("main", "a", MISSING), put("c", version=9)])
    assert await storage.clear(["main"]) == 2
    await storage.prune(-1)
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=1)]
    with pytest.raises(Exception, match="no longer kept"):
        await storage.changes(position, 10)


async def test_our_own_changes_are_in_the_outbox_as_without(watched: tuple[Any, Any]):
    storage, _ = watched
    position = await storage.position()
    await storage.write([put("a")])
    await storage.write([put("a", "w"), put("b")])
    await storage.write([RowChange("main", "a", MISSING)])
    await storage.clear(["main"])
    assert await told(storage, position) == [
        ("a", 1, "us"),
        ("a", 2, "us"),
        ("b", 1, "us"),
        ("a", 3, "us"),
        ("b", 2, "us"),
    ]


async def test_an_update_of_plain_sql_is_told_and_has_a_version(watched: tuple[Any, Any]):
    storage, plain = watched
    await storage.write([put("a")])
    position = await storage.position()
    await storage.changes(position, 10)
    waiting = asyncio.ensure_future(storage.wait(60))
    await asyncio.sleep(0)
    plain.execute("UPDATE cache_storage SET value = 'typed' WHERE key = 'a'")
    await asyncio.wait_for(waiting, 10)
    assert await told(storage, position) == [("a", 2, "")]
    [row] = await storage.read("main", ["a"])
    assert (row.value.payload, row.version) == (b"typed", 2)
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=3)]


async def test_inserts_deletes_and_renames_of_plain_sql_are_told(watched: tuple[Any, Any]):
    storage, plain = watched
    position = await storage.position()
    plain.execute("INSERT INTO cache_storage (region, key, value) VALUES ('main', 'a', '1')")
    plain.execute("UPDATE cache_storage SET key = 'b' WHERE key = 'a'")
    plain.execute("DELETE FROM cache_storage WHERE key = 'b'")
    plain.execute("DELETE FROM cache_storage")  # what is deleted already
    assert sorted(await told(storage, position)) == [
        ("a", 1, ""),
        ("a", 2, ""),
        ("b", 2, ""),
        ("b", 3, ""),
    ]
    assert await storage.read("main", ["a", "b"]) == [None, None]


async def test_a_deletion_of_plain_sql_keeps_the_version(watched: tuple[Any, Any]):
    storage, plain = watched
    await storage.write([put("a")])
    plain.execute("DELETE FROM cache_storage WHERE key = 'a'")
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=3)]


async def test_an_update_of_a_deleted_row_is_no_change(watched: tuple[Any, Any]):
    storage, plain = watched
    await storage.write([put("a")])
    await storage.write([RowChange("main", "a", MISSING)])
    position = await storage.position()
    plain.execute("UPDATE cache_storage SET value = 'typed' WHERE key = 'a'")
    assert await told(storage, position) == []
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=3)]
