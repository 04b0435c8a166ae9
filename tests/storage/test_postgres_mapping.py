"""A table of the user's own in PostgreSQL."""

import dataclasses
import datetime as dt
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from tests.storage.test_mapping import CANNOT, FULL, MAPPINGS, MappedHarness

from clusterdb.cache import PostgreSQL, RowMapping
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.errors import ChangesLost, ConfigError, NotSupported, RowRefused
from clusterdb.cache.factory import make_setup, make_storage
from clusterdb.cache.rows import RowChange, RowWritten, Storage
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.storage import CLAUSES, Clause, run
from clusterdb.cache.types import MISSING

WORDS = """
CREATE TABLE words (
    id text PRIMARY KEY, word text NOT NULL, version bigint, ends timestamptz
)"""


class PostgresMappedHarness(MappedHarness):
    """Time passes by moving what is stored into the past."""

    def __init__(self, url: str, mapping: RowMapping) -> None:
        clock = ManualClock()
        config = PostgreSQL(url=url, rows=mapping)
        super().__init__(lambda origin: make_storage(config, clock, origin), clock)
        self.url = url

    async def advance(self, seconds: float) -> None:
        connection = await asyncpg.connect(self.url)
        past = "- $1 * interval '1 second'"
        await connection.execute(f"UPDATE words SET ends = ends {past}", seconds)
        if self.has("changes"):
            moved = f"UPDATE words_outbox SET changed_at = changed_at {past}"
            await connection.execute(moved, seconds)
        await connection.close()


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_postgres(clause: Clause, mapping: RowMapping, database: str):
    under_test = PostgresMappedHarness(database, mapping)
    if not under_test.offers(clause.needs):
        assert clause.needs & CANNOT
        pytest.skip("a table of the user's own can't")
    connection = await asyncpg.connect(database)
    await connection.execute(WORDS)
    await connection.close()

    await run(clause, under_test)


# -- users


@dataclasses.dataclass
class User:
    name: str
    born: dt.date | None = None
    joined: dt.datetime | None = None
    balance: Decimal = Decimal(0)
    score: float = 0.0
    photo: bytes = b""
    marks: list[int] = dataclasses.field(default_factory=list)
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    token: UUID | None = None


USERS = """
CREATE TABLE users (
    id bigint PRIMARY KEY, name text NOT NULL CHECK (name <> ''), mail text UNIQUE,
    born date, joined timestamptz, balance numeric NOT NULL DEFAULT 0, score float8,
    photo bytea, marks int[], settings jsonb, token uuid,
    note text NOT NULL DEFAULT 'untouched', version bigint NOT NULL DEFAULT 1
)"""
COLUMNS = tuple(field.name for field in dataclasses.fields(User))
OF_USERS = RowMapping(
    table="users",
    key_column="id",
    columns=COLUMNS,
    type=User,
    prefix="user:",
    version_column="version",
)
ANN = User(
    "Ann é \U0001f600 'quoted' \"and\" \\",
    dt.date(1990, 2, 28),
    dt.datetime(2026, 1, 2, 3, 4, 5, 678, dt.UTC),
    Decimal("12345678901234567890.123456789"),
    float("inf"),
    bytes(range(256)),
    [1, -2, 3],
    {"theme": "dark", "sizes": [1, 2.5, None]},
    UUID("12345678-1234-5678-1234-567812345678"),
)


def put(key: str, value: object, **options: Any) -> RowChange:
    return RowChange("default", key, value, **options)


@pytest.fixture
async def users(database: str) -> AsyncIterator[tuple[Storage, Any]]:
    plain = await asyncpg.connect(database)
    await plain.execute(USERS)
    config = PostgreSQL(url=database, rows=OF_USERS)
    await make_setup(config, SystemClock()).init(with_triggers=True)
    storage = make_storage(config, SystemClock(), "us")
    await storage.open()
    yield storage, plain
    await storage.aclose()
    await plain.close()


async def told(storage: Storage, position: str) -> list[tuple[str, int, str]]:
    changes, _ = await storage.changes(position, 100)
    return [(change.key, change.version, change.origin) for change in changes]


async def test_columns_of_all_kinds_come_back(users: tuple[Storage, Any]):
    storage, plain = users
    await storage.write([put("user:1", ANN), put("user:2", User("Bob"))])
    rows = await storage.read("default", ["user:1", "user:2"])
    assert [row and row.value for row in rows] == [ANN, User("Bob")]
    assert await plain.fetchval("SELECT photo FROM users WHERE id = 1") == ANN.photo
    await plain.execute("UPDATE users SET note = 'kept'")
    await storage.write([put("user:1", User("Eve"))])
    assert await plain.fetchval("SELECT name || note FROM users WHERE id = 1") == "Evekept"


async def test_only_the_columns_own_text_is_a_key(users: tuple[Storage, Any]):
    storage, _ = users
    await storage.write([put("user:7", User("Ann"))])
    keys = ["user:7", "user:07", "user:x", "7", "user:\0", "user:99999999999999999999"]
    rows = await storage.read("default", keys)
    assert [row is not None for row in rows] == [True] + [False] * 5
    outcomes = await storage.write([put(key, User("Eve")) for key in keys[1:]])
    assert all(isinstance(outcome, RowRefused) for outcome in outcomes)


async def test_what_the_table_refuses_is_that_rows_error(users: tuple[Storage, Any]):
    storage, plain = users
    outcomes = await storage.write(
        [
            put("user:1", User("")),
            put("user:2", User("Ann")),
            put("user:3", {"name": "Bob"}),
            put("user:4", User("nul \0")),
            put("user:5", User("Eve", settings={"of": object()})),
            put("user:6", User("Fay")),
        ]
    )
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, RowRefused)]
    assert codes == ["23514", "mapping", "22P05", "mapping"]
    assert "no NUL character" in str(outcomes[3])
    assert "Failing row" not in str(outcomes[0]), "the row's contents are in a message"
    assert [row[0] for row in await plain.fetch("SELECT id FROM users ORDER BY id")] == [2, 6]


async def test_a_conflict_with_another_row_is_a_refusal(database: str):
    plain = await asyncpg.connect(database)
    await plain.execute(USERS)
    rows = RowMapping(table="users", key_column="id", columns=("name", "mail"))
    storage = make_storage(PostgreSQL(url=database, rows=rows), SystemClock())
    await storage.open()
    values = [{"name": "Ann", "mail": "a@x"}, {"name": "Eve", "mail": "a@x"}]
    outcomes = await storage.write([put(str(at), value) for at, value in enumerate(values)])
    assert outcomes[0] == RowWritten(applied=True, version=0)
    assert isinstance(outcomes[1], RowRefused)
    assert outcomes[1].code == "23505"
    await storage.aclose()
    await plain.close()


async def test_plain_sql_is_told_with_triggers(users: tuple[Storage, Any]):
    storage, plain = users
    position = await storage.position()
    await plain.execute("INSERT INTO users (id, name) VALUES (1, 'Ann')")
    await plain.execute("UPDATE users SET name = 'Eve' WHERE id = 1")
    await plain.execute("UPDATE users SET id = 2 WHERE id = 1")
    await plain.execute("DELETE FROM users WHERE id = 2")
    await plain.execute("INSERT INTO users (id, name) VALUES (1, 'Ann')")
    assert sorted(await told(storage, position)) == [
        ("user:1", 1, ""),
        ("user:1", 2, ""),
        ("user:1", 3, ""),
        ("user:1", 4, ""),
        ("user:2", 3, ""),
        ("user:2", 4, ""),
    ]
    position = await storage.position()
    await plain.execute("TRUNCATE users")
    with pytest.raises(ChangesLost):
        await storage.changes(position, 10)


async def test_our_own_changes_are_told_once_with_triggers(users: tuple[Storage, Any]):
    storage, _ = users
    position = await storage.position()
    await storage.write([put("user:1", User("Ann"))])
    await storage.write([put("user:1", User("Eve")), put("user:2", User("Bob"))])
    await storage.write([put("user:1", MISSING)])
    await storage.write([put("user:2", MISSING, version=50)])
    assert await storage.write([put("user:1", User("Ann"))]) == [
        RowWritten(applied=True, version=4)
    ]
    assert await storage.clear(["default"]) == 1
    assert sorted(await told(storage, position)) == [
        ("user:1", 1, "us"),
        ("user:1", 2, "us"),
        ("user:1", 3, "us"),
        ("user:1", 4, "us"),
        ("user:1", 5, "us"),
        ("user:2", 1, "us"),
        ("user:2", 50, "us"),
    ]


async def test_keys_of_uuids(database: str):
    plain = await asyncpg.connect(database)
    await plain.execute("CREATE TABLE things (id uuid PRIMARY KEY, name text)")
    rows = RowMapping(table="things", key_column="id", columns=("id", "name"))
    storage = make_storage(PostgreSQL(url=database, rows=rows), SystemClock())
    await storage.open()
    key = "12345678-1234-5678-1234-56781234abcd"
    await storage.write([put(key, {"id": key, "name": "a"})])
    found = await storage.read("default", [key, key.upper(), "x"])
    assert [row and row.value for row in found] == [{"id": UUID(key), "name": "a"}, None, None]
    assert [row.key async for batch in storage.scan("default", 10) for row in batch] == [key]
    await storage.aclose()
    await plain.close()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"table": "nobody"}, "is not there"),
        ({"columns": ("nick",)}, "has no column 'nick'"),
        ({"key_column": "note"}, "'note' that is not unique"),
        ({"key_column": "joined", "columns": ("name",)}, "of type timestamp with time zone"),
        ({"version_column": "revision"}, "has no column 'revision'"),
        ({"version_column": "note"}, "'note' of type text: it must be bigint"),
    ],
)
async def test_a_mapping_that_does_not_fit_the_table(
    change: dict[str, Any], problem: str, database: str
):
    plain = await asyncpg.connect(database)
    await plain.execute(USERS)
    await plain.close()
    fields = {name: getattr(OF_USERS, name) for name in OF_USERS.__struct_fields__} | change
    config = PostgreSQL(url=database, rows=RowMapping(**fields))
    with pytest.raises(ConfigError, match=problem):
        await make_storage(config, SystemClock()).open()


async def test_without_versions_nothing_is_told(database: str):
    plain = await asyncpg.connect(database)
    await plain.execute(WORDS)
    fields = {name: getattr(FULL, name) for name in FULL.__struct_fields__}
    rows = RowMapping(**fields | {"version_column": None})
    storage = make_storage(PostgreSQL(url=database, rows=rows, create=False), SystemClock())
    await storage.open()
    for call in (storage.position(), storage.changes("", 1), storage.wait(1)):
        with pytest.raises(NotSupported, match=r"rows\.version_column"):
            await call
    with pytest.raises(NotSupported, match=r"rows\.region"):
        await storage.read("other", ["k"])
    assert await plain.fetchval("SELECT count(*) FROM pg_class WHERE relname LIKE 'words_%'") <= 1
    await storage.aclose()
    await plain.close()
