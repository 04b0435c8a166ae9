"""The stream of changes under many writers: each change of a key is told once, and none is lost.

Versions grow by one with each change of a key, so what was told of a key must be 1, 2, 3 ... up to
the version that it has at the end, whoever wrote, and however transactions overlapped; what one
call tells of a key is in order.
"""

import asyncio
import random
import sqlite3
from collections import defaultdict
from contextlib import closing
from typing import Any

import asyncpg
import pytest
from tests.storage.worker import config_of

from clusterdb.cache import PostgreSQL, SQLite
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange
from clusterdb.cache.types import MISSING

KEYS = "abcde"
LAST = "written when all others have ended"
WRITERS = 5
WRITES = 40
UPDATE = "UPDATE cache_storage SET value = 'typed' WHERE key = '{}'"

pytestmark = pytest.mark.server


def changes_of(random_: random.Random) -> list[RowChange]:
    """A group of changes of some keys, one in four a deletion."""
    return [
        RowChange("main", key, MISSING if random_.random() < 0.25 else Encoded(b"v", 5))
        for key in random_.sample(KEYS, random_.randint(1, 3))
    ]


async def write(config: str, number: int) -> None:
    """Groups of changes; some transactions take long, and some are undone."""
    random_ = random.Random(number)
    storage = make_storage(config_of(config), SystemClock(), f"writer{number}")
    await storage.open()

    async def before(_: object) -> None:
        await asyncio.sleep(random_.choice([0, 0, 0.002]))
        if random_.random() < 0.1:
            raise InvalidArgument("undone")

    for _ in range(WRITES):
        try:
            await storage.write(changes_of(random_), before_commit=before)
        except InvalidArgument:
            continue
    await storage.aclose()


async def type_sql(config: str) -> None:
    """The same by plain SQL, which triggers tell of."""
    random_ = random.Random(99)
    settings = config_of(config)
    if isinstance(settings, SQLite):
        for _ in range(WRITES):
            statement = UPDATE.format(random_.choice(KEYS))
            await asyncio.to_thread(_execute, settings.path, statement)
        return
    connection = await asyncpg.connect(settings.url)
    for _ in range(WRITES):
        await connection.execute(UPDATE.format(random_.choice(KEYS)))
    await connection.close()


def _execute(path: str, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as plain:
        plain.execute(statement)


async def follow(storage: Any, position: str) -> dict[str, list[int]]:
    """What is told, up to the last change of all."""
    told: dict[str, list[int]] = defaultdict(list)
    while LAST not in told:
        changes, position = await storage.changes(position, 7)
        of_this_call: dict[str, int] = {}
        for change in changes:
            assert change.version > of_this_call.get(change.key, 0), changes
            of_this_call[change.key] = change.version
            told[change.key].append(change.version)
        if not changes:
            await storage.wait(0.05)
    return told


async def test_each_change_is_told_once(config: str):
    reader: Any = make_storage(config_of(config), SystemClock(), "reader")
    await reader.open()
    await reader.init(with_triggers=True)
    position = await reader.position()
    following = asyncio.ensure_future(follow(reader, position))
    await asyncio.gather(type_sql(config), *[write(config, number) for number in range(WRITERS)])
    await reader.write([RowChange("main", LAST, Encoded(b"v", 5))])
    told = await asyncio.wait_for(following, 30)

    versions = await stored_versions(config)
    assert versions.pop(LAST) == 1
    assert set(versions) == set(KEYS)
    assert {key: sorted(told[key]) for key in KEYS} == {
        key: list(range(1, version + 1)) for key, version in versions.items()
    }
    assert sum(versions.values()) > WRITERS * WRITES
    await reader.aclose()


async def stored_versions(config: str) -> dict[str, int]:
    """The version of each row, deleted ones included."""
    query = "SELECT key, row_version FROM cache_storage"
    settings = config_of(config)
    if isinstance(settings, PostgreSQL):
        connection = await asyncpg.connect(settings.url)
        rows = [tuple(row) for row in await connection.fetch(query)]
        await connection.close()
        return dict(rows)
    with closing(sqlite3.connect(settings.path)) as plain:
        return dict(plain.execute(query).fetchall())
