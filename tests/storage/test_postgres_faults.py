"""What goes wrong with a PostgreSQL server, and what callers are told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from tests.storage.postgres import PostgresServer

from clusterdb.cache import PoolConfig, PostgreSQL
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import (
    ChangesLost,
    ConfigError,
    OutcomeUnknown,
    RowRefused,
    StorageUnavailable,
)
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, RowWritten, Storage
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.types import MISSING


def put(key: str, value: str = "v", **options: Any) -> RowChange:
    return RowChange("main", key, Encoded(value.encode(), 5), **options)


@asynccontextmanager
async def opened(url: str, timeout: float = 5.0, **settings: Any) -> AsyncIterator[Storage]:
    pool = PoolConfig(timeout=timeout, connect_timeout=2)
    config = PostgreSQL(url=url, pool=pool, **settings)
    storage = make_storage(config, SystemClock(), "us")
    await storage.open()
    try:
        yield storage
    finally:
        await storage.aclose()


async def value(storage: Storage, key: str) -> str | None:
    [row] = await storage.read("main", [key])
    return None if row is None else row.value.payload.decode()


async def test_a_server_that_was_restarted_is_used_again(server: PostgresServer):
    async with opened(server.url) as storage:
        await storage.write([put("k", "before")])
        await asyncio.gather(*[storage.read("main", ["k"]) for _ in range(10)])
        await asyncio.to_thread(server.crash)
        with pytest.raises(StorageUnavailable):
            await storage.read("main", ["k"])
        with pytest.raises(StorageUnavailable, match="nothing was written"):
            await storage.write([put("k", "lost")])
        await asyncio.to_thread(server.start)

        assert await value(storage, "k") == "before"
        await storage.write([put("k", "after")])
        assert await value(storage, "k") == "after"


async def test_who_listens_hears_of_a_restart_and_listens_again(server: PostgresServer):
    async with opened(server.url) as storage:
        position = await storage.position()
        await storage.wait(60)  # listens from now on
        await storage.changes(position, 10)
        waiting = asyncio.ensure_future(storage.wait(60))
        await asyncio.sleep(0)
        await asyncio.to_thread(server.crash)
        await asyncio.wait_for(waiting, 10)
        with pytest.raises(StorageUnavailable):
            await storage.wait(60)
        await asyncio.to_thread(server.start)
        await storage.write([put("k")])
        await asyncio.wait_for(storage.wait(60), 10)
        changes, _ = await storage.changes(position, 10)
        assert [change.key for change in changes] == ["k"]


async def test_acknowledged_writes_survive_a_crash(server: PostgresServer):
    acknowledged: dict[str, int] = {}

    async def write(storage: Storage, key: str) -> None:
        try:
            while True:
                [written] = await storage.write([put(key)])
                assert isinstance(written, RowWritten)
                acknowledged[key] = written.version
        except (StorageUnavailable, OutcomeUnknown):
            return

    async with opened(server.url) as storage:
        writers = [asyncio.ensure_future(write(storage, f"k{number}")) for number in range(8)]
        while sum(acknowledged.values()) < 100:  # noqa: ASYNC110 - real writes, as they come
            await asyncio.sleep(0.001)
        await asyncio.to_thread(server.crash)
        await asyncio.gather(*writers)
        await asyncio.to_thread(server.start)
        rows = await storage.read("main", list(acknowledged))
        found = {row.key: row.version for row in rows if row is not None}
        # one more than was acknowledged: a commit whose reply never came
        assert all(found[key] - version in (0, 1) for key, version in acknowledged.items())


async def test_a_refused_connection_says_where(server: PostgresServer):
    url = server.url
    await asyncio.to_thread(server.stop)
    with pytest.raises(StorageUnavailable, match=f"127.0.0.1:{server.port}"):
        async with opened(url):
            pass


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (("postgres@", "nobody@"), r"role \"nobody\" does not exist.*the user and the password"),
        (("/test_", "/none_"), r"does not exist.*Make that database"),
    ],
)
async def test_an_url_that_leads_nowhere_is_told(
    database: str, change: tuple[str, str], remedy: str
):
    with pytest.raises(StorageUnavailable, match=remedy):
        async with opened(database.replace(*change)):
            pass


async def test_a_standby_is_told(database: str):
    admin = await asyncpg.connect(database)
    async with opened(database) as storage:
        await storage.write([put("k")])
        name = database.rpartition("/")[2]
        await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with opened(database) as storage:
        assert await value(storage, "k") == "v"
        with pytest.raises(StorageUnavailable, match="name the primary"):
            await storage.write([put("k", "w")])
    await admin.close()


async def test_a_password_is_in_no_message(server: PostgresServer):
    url = server.url.replace("postgres@", "postgres:secret@")
    await asyncio.to_thread(server.stop)
    with pytest.raises(StorageUnavailable) as caught:
        async with opened(url):
            pass
    assert "secret" not in str(caught.value)


async def test_a_lock_that_is_held_for_long_is_told(database: str):
    holder = await asyncpg.connect(database)
    async with opened(database, timeout=0.2) as storage:
        await storage.write([put("a"), put("b")])
        async with holder.transaction():
            await holder.execute("SELECT 1 FROM cache_storage WHERE key = 'a' FOR UPDATE")
            with pytest.raises(StorageUnavailable, match="nothing was written"):
                await storage.write([put("a", "w"), put("b", "w")])
            await storage.write([put("b", "x")])
            assert (await value(storage, "a"), await value(storage, "b")) == ("v", "x")
        await storage.write([put("a", "w")])
        assert await value(storage, "a") == "w"
    await holder.close()


async def test_a_deadlock_is_solved(database: str):
    """A transaction of plain SQL takes rows in the other order: one of the two is chosen to fail,
    and where that is ours it is made again.
    """
    other = await asyncpg.connect(database)
    await other.execute("SET deadlock_timeout = '10s'")  # so that ours is the one to find out
    async with opened(database) as storage:
        await storage.write([put("a"), put("b")])
        update = "UPDATE cache_storage SET updated_at = now() WHERE key = $1"
        async with other.transaction():
            await other.execute(update, "b")
            ours = asyncio.ensure_future(storage.write([put("a", "w"), put("b", "w")]))
            await until_waiting(database)
            await other.execute(update, "a")
        [first, second] = await ours
        assert isinstance(first, RowWritten)
        assert isinstance(second, RowWritten)
        assert first.applied
        assert second.applied
    await other.close()


async def until_waiting(url: str) -> None:
    """Until a session of the database waits for a lock."""
    watcher = await asyncpg.connect(url)
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while not await watcher.fetchval(query):
        continue
    await watcher.close()


async def test_a_row_that_is_made_meanwhile_is_judged_again(database: str):
    """Nobody can lock a row that is not there yet: who comes second sees what the first made."""
    other = await asyncpg.connect(database)
    insert = "INSERT INTO cache_storage (region, key, row_version) VALUES ('main', $1, 7)"
    async with opened(database) as storage:
        async with other.transaction():
            await other.execute(insert, "k")
            writing = asyncio.ensure_future(
                storage.write([put("a"), put("k"), put("z", when="absent")])
            )
            await until_waiting(database)
        assert await writing == [
            RowWritten(applied=True, version=1),
            RowWritten(applied=True, version=8),
            RowWritten(applied=True, version=1),
        ]
        async with other.transaction():
            await other.execute(insert, "n")
            writing = asyncio.ensure_future(storage.write([put("n", when="absent")]))
            await until_waiting(database)
        assert await writing == [RowWritten(applied=False, version=7)]
    await other.close()


async def test_a_refused_row_is_found_and_the_others_are_written(database: str):
    admin = await asyncpg.connect(database)
    async with opened(database) as storage:
        await admin.execute(
            "ALTER TABLE cache_storage ADD CONSTRAINT no_secret CHECK (key NOT LIKE 'secret%')"
        )
        keys = [f"k{number}" for number in range(20)]
        keys[3], keys[11] = "secret1", "secret2"
        position = await storage.position()
        outcomes = await storage.write([put(key) for key in keys])
        refused = [outcome for outcome in outcomes if isinstance(outcome, RowRefused)]
        assert [(error.key, error.code) for error in refused] == [
            ("secret1", "23514"),
            ("secret2", "23514"),
        ]
        assert all(isinstance(error.__cause__, asyncpg.CheckViolationError) for error in refused)
        rows = await storage.read("main", keys)
        assert [row is None for row in rows] == [key.startswith("secret") for key in keys]
        changes, _ = await storage.changes(position, 100)
        assert len(changes) == 18
        undone = await storage.write([put("k0", "w"), put("secret1")], atomic=True)
        assert undone[0] == RowWritten(applied=False, version=1)
        assert isinstance(undone[1], RowRefused)
        assert await value(storage, "k0") == "v"
    await admin.close()


async def test_what_postgres_has_no_form_for_is_refused(database: str):
    async with opened(database) as storage:
        long = "".join(chr(0x4E00 + number * 7 % 20000) for number in range(4000))
        outcomes = await storage.write([put("a\0b"), put("t", tags=("x\0",)), put(long), put("k")])
        assert [outcome.code for outcome in outcomes if isinstance(outcome, RowRefused)] == [
            "22021",
            "22021",
            "54000",
        ]
        assert await value(storage, "a\0b") is None
        assert await value(storage, "k") == "v"


async def test_before_the_commit_there_is_a_deadline(database: str):
    async with opened(database, timeout=0.3) as storage:
        await storage.write([put("k")])

        async def forever(_: object) -> None:
            await asyncio.Event().wait()

        with pytest.raises(StorageUnavailable, match=r"took longer than 0\.3 s"):
            await storage.write([put("k", "w")], before_commit=forever)
        assert await value(storage, "k") == "v"
        await storage.write([put("k", "w")])


async def test_a_process_that_was_stopped_before_its_commit_does_not_commit(database: str):
    """The server ends the transaction, whatever this process does: no commit follows a fence that
    stood longer.
    """
    import time

    async with opened(database, timeout=0.2) as storage:
        await storage.write([put("k")])

        async def stopped(_: object) -> None:
            time.sleep(0.6)  # noqa: ASYNC251 - as if the process were stopped

        with pytest.raises(StorageUnavailable):
            await storage.write([put("k", "w")], before_commit=stopped)
        assert await value(storage, "k") == "v"
        await storage.write([put("k", "w")])
        assert await value(storage, "k") == "w"


async def test_a_session_that_is_ended_before_its_commit_wrote_nothing(database: str):
    admin = await asyncpg.connect(database)
    calls = []
    async with opened(database) as storage:

        async def ended(_: object) -> None:
            calls.append(1)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE state = 'idle in transaction'"
            )

        with pytest.raises((StorageUnavailable, OutcomeUnknown)):
            await storage.write([put("k")], before_commit=ended)
        assert calls == [1]
        assert await value(storage, "k") is None
        await storage.write([put("k")])
    await admin.close()


async def test_changes_wait_for_older_transactions(database: str):
    """A change is told once nothing that would come before it can still be committed."""
    async with opened(database) as storage, opened(database) as other:
        position = await storage.position()
        await storage.wait(60)
        told = []

        async def meanwhile(_: object) -> None:
            await other.write([put("later")])
            changes, behind = await storage.changes(position, 10)
            told.append(([change.key for change in changes], behind == position))

        await storage.write([put("earlier")], before_commit=meanwhile)
        assert told == [([], True)]
        keys: list[str] = []
        while len(keys) < 2:
            changes, position = await storage.changes(position, 10)
            keys += [change.key for change in changes]
            if not changes:
                await storage.wait(60)
        assert keys == ["earlier", "later"]


async def test_who_holds_changes_back_for_long_is_named(
    database: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("clusterdb.cache.storage.postgres.storage._LONG_OPEN", 0.0)
    other = await asyncpg.connect(database)
    async with opened(database) as storage:
        assert (await storage.describe()).problems == ()
        async with other.transaction():
            await other.execute("SELECT pg_current_xact_id()")
            pid = await other.fetchval("SELECT pg_backend_pid()")
            [problem] = (await storage.describe()).problems
        assert f"process {pid} " in problem
        assert (await storage.describe()).problems == ()
    await other.close()


async def test_a_cancelled_write_goes_to_its_end(database: str):
    async with opened(database) as storage:
        reached, goes_on = asyncio.Event(), asyncio.Event()

        async def before(_: object) -> None:
            reached.set()
            await goes_on.wait()

        task = asyncio.ensure_future(storage.write([put("k")], before_commit=before))
        await reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        goes_on.set()
        await storage.aclose()  # waits for it
        await storage.open()
        assert await value(storage, "k") == "v"


async def test_tables_are_made_where_that_is_allowed(database: str):
    with pytest.raises(ConfigError, match="'cache storage init' makes"):
        async with opened(database, create=False):
            pass
    async with opened(database):
        pass
    async with opened(database, create=False) as storage:
        await storage.write([put("k")])


async def test_a_role_that_may_not_is_told_what_to_do(database: str):
    admin = await asyncpg.connect(database)
    await admin.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    await admin.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    with pytest.raises(ConfigError, match="tables that this role may not make"):
        async with opened(database.replace("postgres@", "guest@")):
            pass
    async with opened(database):
        pass
    with pytest.raises(StorageUnavailable, match="grant it to this role"):
        async with opened(database.replace("postgres@", "guest@")):
            pass
    await admin.execute("DROP ROLE guest")
    await admin.close()


async def test_another_programs_table_is_left_alone(database: str):
    admin = await asyncpg.connect(database)
    await admin.execute("CREATE TABLE cache_storage (id int, region text)")
    with pytest.raises(ConfigError, match=r"'cache_storage' .* is another program's"):
        async with opened(database):
            pass
    await admin.close()


async def test_a_newer_schema_is_refused(database: str):
    async with opened(database):
        pass
    admin = await asyncpg.connect(database)
    await admin.execute("UPDATE cache_storage_meta SET schema_version = 99")
    with pytest.raises(ConfigError, match="newer release"):
        async with opened(database):
            pass
    await admin.close()


async def test_several_make_the_tables_at_once(database: str):
    storages = [make_storage(PostgreSQL(url=database), ManualClock()) for _ in range(6)]
    await asyncio.gather(*[storage.open() for storage in storages])
    await asyncio.gather(*[storage.aclose() for storage in storages])


async def test_a_table_of_a_schema(database: str):
    admin = await asyncpg.connect(database)
    await admin.execute('CREATE SCHEMA "Mine"')
    async with opened(database, table="Mine.Rows") as storage:
        await storage.write([put("k")])
        assert await value(storage, "k") == "v"
    assert await admin.fetchval('SELECT count(*) FROM "Mine"."Rows_outbox"') == 1
    await admin.close()


# -- plain SQL


@pytest.fixture
async def watched(database: str) -> AsyncIterator[tuple[Storage, Any]]:
    """A storage with triggers, and a session of plain SQL."""
    admin = await asyncpg.connect(database)
    async with opened(database) as storage:
        await storage.init(with_triggers=True)  # type: ignore[attr-defined]
        yield storage, admin
    await admin.close()


async def told(storage: Storage, position: str) -> list[tuple[str, int, str]]:
    changes, _ = await storage.changes(position, 100)
    return [(change.key, change.version, change.origin) for change in changes]


async def test_our_own_changes_are_told_once_with_triggers(watched: tuple[Storage, Any]):
    storage, _ = watched
    position = await storage.position()
    await storage.write([put("a")])
    await storage.write([put("a", "w"), put("b")])
    await storage.write([RowChange("main", "a", MISSING)])
    await storage.clear(["main"])
    assert sorted(await told(storage, position)) == [
        ("a", 1, "us"),
        ("a", 2, "us"),
        ("a", 3, "us"),
        ("b", 1, "us"),
        ("b", 2, "us"),
    ]


async def test_an_update_of_plain_sql_is_told_and_has_a_version(watched: tuple[Storage, Any]):
    storage, admin = watched
    await storage.write([put("a")])
    position = await storage.position()
    await storage.wait(60)
    await admin.execute("UPDATE cache_storage SET value = 'typed' WHERE key = 'a'")
    await asyncio.wait_for(storage.wait(60), 10)
    assert await told(storage, position) == [("a", 2, "")]
    [row] = await storage.read("main", ["a"])
    assert row is not None
    assert (row.value.payload, row.version) == (b"typed", 2)
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=3)]


async def test_inserts_and_deletes_of_plain_sql_are_told(watched: tuple[Storage, Any]):
    storage, admin = watched
    position = await storage.position()
    insert = "INSERT INTO cache_storage (region, key, value) VALUES ('main', 'a', '1')"
    await admin.execute(f"{insert} ON CONFLICT (region, key) DO UPDATE SET value = '2'")
    await admin.execute(f"{insert} ON CONFLICT (region, key) DO UPDATE SET value = '2'")
    await admin.execute("DELETE FROM cache_storage WHERE key = 'a'")
    await admin.execute("DELETE FROM cache_storage WHERE key = 'a'")  # the tombstone
    assert await told(storage, position) == [("a", 1, ""), ("a", 2, ""), ("a", 3, "")]


async def test_a_deletion_of_plain_sql_keeps_the_version(watched: tuple[Storage, Any]):
    storage, admin = watched
    await storage.write([put("a")])
    await admin.execute("DELETE FROM cache_storage WHERE key = 'a'")
    assert await storage.read("main", ["a"]) == [None]
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=3)]


async def test_a_renamed_row_is_told_under_both_names(watched: tuple[Storage, Any]):
    storage, admin = watched
    await storage.write([put("a")])
    position = await storage.position()
    await admin.execute("UPDATE cache_storage SET key = 'b' WHERE key = 'a'")
    assert sorted(await told(storage, position)) == [("a", 2, ""), ("b", 2, "")]
    assert await value(storage, "b") == "v"


async def test_a_truncated_table_is_a_loss_of_changes(watched: tuple[Storage, Any]):
    storage, admin = watched
    await storage.write([put("a")])
    position = await storage.position()
    await admin.execute("TRUNCATE cache_storage")
    with pytest.raises(ChangesLost):
        await storage.changes(position, 10)
    assert await told(storage, await storage.position()) == []


async def test_an_update_of_a_deleted_row_is_no_change(watched: tuple[Any, Any]):
    storage, admin = watched
    await storage.write([put("a")])
    await storage.write([RowChange("main", "a", MISSING)])
    position = await storage.position()
    await admin.execute("UPDATE cache_storage SET value = 'typed' WHERE key = 'a'")
    assert await told(storage, position) == []
    assert await storage.write([put("a")]) == [RowWritten(applied=True, version=3)]
