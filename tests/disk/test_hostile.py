"""Files that somebody else made or changed: refused by name, or misses; never code that runs."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.disk.worker import make
from tests.layers import innermost

from clusterdb.cache import BackendUnavailable, CacheError, ConfigError
from clusterdb.cache.backends.disk.schema import APPLICATION_ID, FORMAT

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


async def fill(path: Path, count: int = 3) -> None:
    async with make(str(path)) as cache:
        for number in range(count):
            await cache.set(f"k{number}", [number] * 200, tags=("t",))


async def refused(path: Path) -> str:
    cache = make(str(path))
    try:
        with pytest.raises(ConfigError) as caught:
            await cache.set("k", 1)
    finally:
        await cache.aclose()
    assert caught.value.path == "backend.path"
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


def change(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            db.execute(statement)
    db.close()


# -- what is no file of ours


@pytest.mark.parametrize("target", ["a cache file", "nothing", "itself"])
async def test_a_symbolic_link(target: str, path: Path):
    aim = path.with_name("aim.db")
    if target == "a cache file":
        await fill(aim)
    path.symlink_to(path if target == "itself" else aim)
    assert "symbolic link" in await refused(path)
    assert aim.exists() == (target == "a cache file")


async def test_a_folder(path: Path):
    path.mkdir()
    assert "not a regular file" in await refused(path)


async def test_a_fifo(path: Path):
    os.mkfifo(path)
    assert "not a regular file" in await refused(path)


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
async def test_a_file_of_another_user(end: str, path: Path):
    await fill(path)
    beside = path.with_name(path.name + end)
    beside.touch()
    os.chown(beside, 12345, 12345)
    assert "belongs to user 12345" in await refused(path)


@pytest.mark.parametrize("end", ["", "-wal"])
async def test_a_file_that_everybody_may_write(end: str, path: Path):
    await fill(path)
    beside = path.with_name(path.name + end)
    beside.touch()
    beside.chmod(0o666)
    assert "chmod 600" in await refused(path)


async def test_a_folder_where_everybody_may_replace_it(path: Path):
    path.parent.chmod(0o777)
    assert "every user may replace it" in await refused(path)
    path.parent.chmod(0o1777)
    await fill(path)


async def test_another_program_s_database(path: Path):
    change(path, "CREATE TABLE users (name TEXT)", "INSERT INTO users VALUES ('Ada')")
    before = path.read_bytes()
    assert "another program" in await refused(path)
    assert path.read_bytes() == before


async def test_a_newer_format(path: Path):
    await fill(path)
    change(path, f"PRAGMA user_version = {FORMAT + 1}")
    assert f"newer release (format {FORMAT + 1}, we know {FORMAT})" in await refused(path)


async def test_an_earlier_format(path: Path):
    await fill(path)
    change(path, f"PRAGMA user_version = {FORMAT - 1}")
    assert f"earlier release (format {FORMAT - 1}, ours is {FORMAT})" in await refused(path)


@pytest.mark.parametrize(
    "extra",
    [
        "CREATE TRIGGER evil AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
        "CREATE VIEW evil AS SELECT 1",
        "CREATE TABLE evil (a)",
        "CREATE INDEX evil ON entries (lower(key))",
        "DROP TABLE tags",
        "ALTER TABLE entries ADD COLUMN evil TEXT",
        "UPDATE sqlite_schema SET sql = replace(sql, 'BLOB', 'BLOB DEFAULT (randomblob(9))')",
    ],
)
async def test_a_tampered_schema(extra: str, path: Path):
    await fill(path)
    change(path, extra)
    assert "tables, triggers or views" in await refused(path)


@pytest.mark.parametrize("size", [2, 99, 100, 511, 512, 4096, 100_000])
async def test_garbage(size: int, path: Path):
    path.write_bytes(random.Random(size).randbytes(size))
    assert "is not a cache file" in await refused(path)


async def test_a_file_cut_short_at_every_page(path: Path):
    await fill(path, 30)
    whole, told = path.read_bytes(), []
    for size in [0, 1, 50, 100, 1000, *range(4096, len(whole), 4096), len(whole) - 1]:
        path.write_bytes(whole[:size])
        cache = make(str(path))
        try:
            for number in range(30):
                value = await cache.get(f"k{number}")
                assert value in (None, [number] * 200)
            await cache.set("more", 1)
        except (ConfigError, BackendUnavailable) as error:
            told.append(str(error))
        finally:
            await cache.aclose()
    assert len(told) > 5
    assert all(str(path) in text for text in told)


# -- what is in it


async def test_damaged_values_are_counted_misses(path: Path):
    draw = random.Random(5)
    await fill(path, 40)
    db = sqlite3.connect(path)
    for number, (row, value, tags) in enumerate(
        db.execute("SELECT id, value, tags FROM entries ORDER BY id").fetchall()
    ):
        at, bit = draw.randrange(len(value)), 1 << draw.randrange(8)
        damaged = value[:at] + bytes([value[at] ^ bit]) + value[at + 1 :]
        if number % 4 == 1:
            damaged = value[:at]
        elif number % 4 == 2:
            damaged = draw.randbytes(at)
        if number % 4 == 3:
            other = tags.replace("t", draw.choice(['"', "u", "}", "\x00", "[", "1"]))
            db.execute("UPDATE entries SET tags = ? WHERE id = ?", (other, row))
        else:
            db.execute("UPDATE entries SET value = ? WHERE id = ?", (damaged, row))
    db.commit()
    db.close()
    async with make(str(path)) as cache:
        for number in range(40):
            assert await cache.get(f"k{number}", "none") == "none"
            assert not await cache.exists(f"k{number}")
        statistics = await cache.get_statistics()
        assert statistics.total.hits == 0
        assert statistics.total.misses == 40
        await cache.set("k0", "anew")
        assert await cache.get("k0") == "anew"


@pytest.mark.parametrize(
    "tags", ["[1]", "{}", "1", "null", "[[]]", "[" * 5000, '["t"', '["\\ud800"]', ""]
)
async def test_tags_that_nobody_wrote(tags: str, path: Path):
    await fill(path)
    change(path, f"UPDATE entries SET tags = '{tags}'")
    async with make(str(path)) as cache:
        assert await cache.get("k0") is None
        assert await cache.get_or_load("k1", lambda: 1) == 1
        await cache.invalidate_tag("t")
        backend: Any = innermost(cache)
        await backend.tidy()


async def test_swapped_values_are_misses(path: Path):
    await fill(path)
    db = sqlite3.connect(path)
    (a, b) = [v for (v,) in db.execute("SELECT value FROM entries WHERE key IN ('k0','k1')")]
    with db:
        db.execute("UPDATE entries SET value = ? WHERE key = 'k0'", (b,))
        db.execute("UPDATE entries SET value = ? WHERE key = 'k1'", (a,))
    db.close()
    async with make(str(path)) as cache:
        assert await cache.get_many(["k0", "k1", "k2"]) == {"k2": [2] * 200}


async def test_an_older_value_of_the_same_key_is_a_miss(path: Path):
    async with make(str(path)) as cache:
        await cache.set("k", "old")
    db = sqlite3.connect(path)
    [(old,)] = db.execute("SELECT value FROM entries")
    db.close()
    async with make(str(path)) as cache:
        await cache.set("k", "new")
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE entries SET value = ?", (old,))
    db.close()
    async with make(str(path)) as cache:
        assert await cache.get("k") is None


class Canary:
    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["CANARY"],)


@pytest.mark.parametrize("column", ["value", "tags", "key"])
async def test_a_pickle_is_never_run(column: str, path: Path, monkeypatch: pytest.MonkeyPatch):
    nest = path.with_name("canary")
    monkeypatch.setenv("CANARY", str(nest))
    await fill(path)
    payload = pickle.dumps(Canary())
    db = sqlite3.connect(path)
    with db:
        found: Any = payload if column == "value" else payload.decode("latin1")
        db.execute(f"UPDATE entries SET {column} = ? WHERE key = 'k0'", (found,))
    db.close()
    async with make(str(path)) as cache:
        for key in ("k0", payload.decode("latin1")):
            assert await cache.get(key) is None
    assert not nest.exists()
    pickle.loads(payload)
    assert nest.exists()  # the canary can sing


async def test_a_member_s_address_can_t_name_another_file(path: Path):
    """The file says where the sockets of members are: it must not make us remove other files."""
    await fill(path)
    precious = path.with_name("precious.sock")
    precious.touch()
    change(
        path,
        *[
            f"INSERT INTO members VALUES (NULL, 'h', 1, 'p', '', '{address}', 0, -1e9, 0, 0, NULL)"
            for address in ("precious.sock", "cache.db", "../precious", "/etc/passwd")
        ],
    )
    async with make(str(path)) as cache:
        backend: Any = innermost(cache)
        for _ in range(3):
            await backend.tidy()
            await cache.set("k", 1)
            backend._attachment.attached.upkeep._heard -= 6
        assert len((await backend.describe()).members) == 1
    assert precious.exists()
    assert path.exists()


async def test_a_damaged_page_is_told(path: Path):
    await fill(path, 200)
    whole, told = path.read_bytes(), []
    draw = random.Random(3)
    for _ in range(20):
        damaged = bytearray(whole)
        for _ in range(30):
            damaged[draw.randrange(100, len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        cache = make(str(path))
        try:
            for number in range(200):
                assert await cache.get(f"k{number}") in (None, [number] * 200)
        except CacheError as error:
            told.append(str(error))
        finally:
            await cache.aclose()
    assert all(str(path) in text for text in told)


def test_the_file_says_whose_it_is(path: Path):
    asyncio.run(fill(path))
    assert path.read_bytes()[68:72] == APPLICATION_ID.to_bytes(4, "big") == b"CDBC"
