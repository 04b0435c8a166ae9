"""A table of the user's own keeps the clauses that it says it can, in both databases."""

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from clusterdb.cache import RowMapping, SQLite
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.errors import ConfigError, NotSupported, RowRefused, TypeMismatch
from clusterdb.cache.factory import make_setup, make_storage
from clusterdb.cache.rows import RowChange, RowWritten, Storage
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.testing.storage import CLAUSES, TRAITS, Clause, Harness, run
from clusterdb.cache.types import MISSING

WORDS = "CREATE TABLE words (id TEXT PRIMARY KEY, word TEXT NOT NULL, version INTEGER, ends REAL)"
FULL = RowMapping(
    table="words",
    key_column="id",
    columns=("word",),
    version_column="version",
    expires_column="ends",
    region="main",
)
PLAIN = RowMapping(table="words", key_column="id", columns=("word",), region="main")
MAPPINGS = {"full": FULL, "plain": PLAIN}
CANNOT = {"tags", "regions", "tombstones", "versions", "changes", "expiry"}


class MappedHarness(Harness):
    traits = TRAITS - {"regions", "tombstones"}

    def value(self, word: object) -> Any:
        return {"word": str(word)}


@pytest.mark.parametrize("mapping", MAPPINGS.values(), ids=MAPPINGS)
@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.name)
async def test_sqlite(clause: Clause, mapping: RowMapping, tmp_path: Path):
    path, clock = tmp_path / "own.db", ManualClock()
    with sqlite3.connect(path) as connection:
        connection.execute(WORDS)
    connection.close()
    config = SQLite(path=path, rows=mapping)
    under_test = MappedHarness(lambda origin: make_storage(config, clock, origin), clock)
    if not under_test.offers(clause.needs):
        assert clause.needs & CANNOT
        pytest.skip("a table of the user's own can't")

    await run(clause, under_test)


# -- users


@dataclasses.dataclass
class User:
    id: int
    name: str
    mail: str | None = None


USERS = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL CHECK (name <> ''), mail TEXT UNIQUE,
    note TEXT NOT NULL DEFAULT 'untouched', version INTEGER NOT NULL DEFAULT 1
)"""
OF_USERS = RowMapping(
    table="users",
    key_column="id",
    columns=("id", "name", "mail"),
    type=User,
    prefix="user:",
    version_column="version",
)


def put(key: str, value: object, **options: Any) -> RowChange:
    return RowChange("default", key, value, **options)


class Users:
    """A storage on a table of users, and plain SQL beside it."""

    def __init__(self, storage: Storage, path: Path) -> None:
        self.storage = storage
        self.plain = sqlite3.connect(path, isolation_level=None)

    async def user(self, key: str) -> Any:
        [row] = await self.storage.read("default", [key])
        return None if row is None else row.value

    async def told(self, position: str) -> list[tuple[str, int, str]]:
        changes, _ = await self.storage.changes(position, 100)
        return [(change.key, change.version, change.origin) for change in changes]


@pytest.fixture
async def users(tmp_path: Path):
    path = tmp_path / "users.db"
    connection = sqlite3.connect(path)
    connection.execute(USERS)
    connection.close()
    config = SQLite(path=path, rows=OF_USERS)
    await make_setup(config, SystemClock()).init(with_triggers=True)
    storage = make_storage(config, SystemClock(), "us")
    await storage.open()
    found = Users(storage, path)
    yield found
    found.plain.close()
    await storage.aclose()


async def test_rows_are_objects(users: Users):
    await users.storage.write([put("user:1", User(1, "Ann", "a@x"))])
    assert await users.user("user:1") == User(1, "Ann", "a@x")
    [row] = users.plain.execute("SELECT id, name, mail, note, version FROM users")
    assert row == (1, "Ann", "a@x", "untouched", 1)
    users.plain.execute("UPDATE users SET note = 'kept'")
    await users.storage.write([put("user:1", {"id": 1, "name": "Eve", "mail": None})])
    assert await users.user("user:1") == User(1, "Eve")
    assert users.plain.execute("SELECT note FROM users").fetchall() == [("kept",)]


async def test_only_the_columns_own_text_is_a_key(users: Users):
    users.plain.execute("INSERT INTO users (id, name) VALUES (7, 'Ann')")
    keys = ["user:7", "user:07", "user: 7", "user:x", "7", "user:", "user:99999999999999999999"]
    rows = await users.storage.read("default", keys)
    assert [row is not None for row in rows] == [True] + [False] * 6
    outcomes = await users.storage.write([put(key, User(7, "Eve")) for key in keys[1:]])
    assert all(isinstance(outcome, RowRefused) for outcome in outcomes)
    assert await users.user("user:7") == User(7, "Ann")


async def test_what_the_table_refuses_is_that_rows_error(users: Users):
    outcomes = await users.storage.write(
        [
            put("user:1", User(1, "")),
            put("user:2", User(2, "Ann", "a@x")),
            put("user:3", User(3, "Eve", "a@x")),
            put("user:4", {"id": 4, "name": "Bob"}),
            put("user:5", {"id": 5, "name": [1], "mail": None}),
            put("user:6", {"id": 6, "name": "Fay", "mail": None, "nick": "F"}),
            put("user:7", {"id": 8, "name": "Gus", "mail": None}),
        ]
    )
    codes = [outcome.code for outcome in outcomes if isinstance(outcome, RowRefused)]
    assert codes == [
        "SQLITE_CONSTRAINT_CHECK",
        "SQLITE_CONSTRAINT_UNIQUE",
        *["mapping"] * 4,
    ]
    assert "no 'mail'" in str(outcomes[3])
    assert "'nick', which is in no column" in str(outcomes[5])
    assert "says id 8, which is another key's" in str(outcomes[6])
    assert users.plain.execute("SELECT id FROM users").fetchall() == [(2,)]
    assert len(await users.told((await users.storage.position())[:17] + "0")) == 1


async def test_plain_sql_is_told_with_triggers(users: Users):
    position = await users.storage.position()
    users.plain.execute("INSERT INTO users (id, name) VALUES (1, 'Ann')")
    users.plain.execute("UPDATE users SET name = 'Eve' WHERE id = 1")
    users.plain.execute("UPDATE users SET id = 2 WHERE id = 1")
    users.plain.execute("DELETE FROM users WHERE id = 2")
    assert sorted(await users.told(position)) == [
        ("user:1", 1, ""),
        ("user:1", 2, ""),
        ("user:1", 3, ""),
        ("user:2", 3, ""),
        ("user:2", 4, ""),
    ]


async def test_our_own_changes_are_told_once_with_triggers(users: Users):
    position = await users.storage.position()
    await users.storage.write([put("user:1", User(1, "Ann"))])
    await users.storage.write([put("user:1", User(1, "Eve")), put("user:2", User(2, "Bob"))])
    await users.storage.write([put("user:1", MISSING)])
    await users.storage.write([put("user:2", MISSING, version=50)])
    assert await users.storage.write([put("user:1", User(1, "Ann"))]) == [
        RowWritten(applied=True, version=4)
    ]
    assert await users.told(position) == [
        ("user:1", 1, "us"),
        ("user:1", 2, "us"),
        ("user:2", 1, "us"),
        ("user:1", 3, "us"),
        ("user:2", 50, "us"),
        ("user:1", 4, "us"),
    ]


async def test_a_row_that_plain_sql_makes_again_goes_on_from_its_version(users: Users):
    for _ in range(3):
        await users.storage.write([put("user:1", User(1, "Ann"))])
    users.plain.execute("DELETE FROM users")
    users.plain.execute("INSERT INTO users (id, name) VALUES (1, 'Eve')")
    [row] = await users.storage.read("default", ["user:1"])
    assert row is not None
    assert row.version == 5


async def test_another_region_is_refused(users: Users):
    with pytest.raises(NotSupported, match=r"rows\.region"):
        await users.storage.read("other", ["user:1"])
    [outcome] = await users.storage.write([RowChange("other", "user:1", User(1, "Ann"))])
    assert isinstance(outcome, NotSupported)


async def test_a_row_that_does_not_fit_the_type_is_told(users: Users):
    users.plain.execute("INSERT INTO users (id, name) VALUES (1, X'00ff')")
    with pytest.raises(TypeMismatch, match="row 'user:1' of table 'users' is no User"):
        await users.storage.read("default", ["user:1"])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"table": "nobody"}, "is not there"),
        ({"columns": ("nick",)}, "has no column 'nick'"),
        ({"key_column": "name"}, "'name' that is not unique"),
        ({"version_column": "revision"}, "has no column 'revision'"),
        ({"version_column": "note"}, "'note' that is not INTEGER"),
    ],
)
async def test_a_mapping_that_does_not_fit_the_table(
    change: dict[str, Any], problem: str, tmp_path: Path
):
    path = tmp_path / "users.db"
    connection = sqlite3.connect(path)
    connection.execute(USERS)
    connection.close()
    fields = {name: getattr(OF_USERS, name) for name in OF_USERS.__struct_fields__} | change
    storage = make_storage(SQLite(path=path, rows=RowMapping(**fields)), SystemClock())
    with pytest.raises(ConfigError, match=problem):
        await storage.open()


async def test_a_key_column_that_does_not_tell_cases_apart_is_refused(tmp_path: Path):
    path = tmp_path / "names.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE names (name TEXT COLLATE NOCASE PRIMARY KEY, age INTEGER)")
    connection.close()
    rows = RowMapping(table="names", key_column="name", columns=("age",))
    with pytest.raises(ConfigError, match="'name' that is not unique"):
        await make_storage(SQLite(path=path, rows=rows), SystemClock()).open()


async def test_without_versions_nothing_is_made_beside_the_table(tmp_path: Path):
    path = tmp_path / "users.db"
    connection = sqlite3.connect(path)
    connection.execute(USERS)
    rows = RowMapping(table="users", key_column="id", columns=("name",), prefix="user:")
    storage = make_storage(SQLite(path=path, rows=rows, create=False), SystemClock())
    await storage.open()
    assert await storage.write([put("user:1", {"name": "Ann"})]) == [RowWritten(True, 0)]
    [outcome] = await storage.write([put("user:1", {"name": "Eve"}, expect=0)])
    assert isinstance(outcome, NotSupported)
    with pytest.raises(NotSupported, match=r"rows\.version_column"):
        await storage.position()
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    assert tables == [("users",)]
    connection.close()
    await storage.aclose()
