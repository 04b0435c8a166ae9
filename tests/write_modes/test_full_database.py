"""A database whose disk is full: the write is told, nothing is half, and with room it goes on."""

from __future__ import annotations

import os
import pwd
import secrets
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from tests.storage.postgres import USER
from tests.write_modes.disks import grow, mounted
from tests.write_modes.test_behind import pending
from tests.write_modes.world import World, until

from clusterdb.cache import Cache, StorageUnavailable
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import SQLite
from clusterdb.cache.factory import make_setup
from clusterdb.cache.types import MISSING

BIG = 100_000


@pytest.fixture
async def disk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Path]:
    """A small disk on which the rows of the world's storage are."""
    world: World = request.getfixturevalue("world")
    if isinstance(world.storage_config, SQLite):
        with mounted(tmp_path / "small"):
            world.storage_config = SQLite(path=tmp_path / "small" / "rows.db")
            yield tmp_path / "small"
        return
    folder = Path(tempfile.mkdtemp(prefix="clusterdb-small-"))
    folder.chmod(0o711)
    server = pwd.getpwnam(USER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with mounted(folder / "disk", f"uid={server.pw_uid}", f"gid={server.pw_gid}", "mode=0700"):
        name = await moved(world, folder / "disk")
        yield folder / "disk"
        await world.aclose()
        admin = await asyncpg.connect(world.storage_config.url)
        await admin.execute("DROP TABLE cache_storage")
        await admin.execute(f"DROP TABLESPACE {name}")
        await admin.close()
    (folder / "disk").rmdir()
    folder.rmdir()


async def moved(world: World, folder: Path) -> str:
    """Have the rows in a tablespace of their own; its name."""
    await make_setup(world.storage_config, SystemClock()).init(with_triggers=False)
    name = f"small_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(world.storage_config.url)
    await admin.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
    await admin.execute(f"ALTER TABLE cache_storage SET TABLESPACE {name}")
    await admin.close()
    return name


pytestmark = pytest.mark.parametrize(
    ("backend", "storage"),
    [("memory", "sqlite"), ("memory", "postgres"), ("redis", "sqlite"), ("redis", "postgres")],
    indirect=True,
)


def value(at: int) -> str:
    """What no server can compress to less."""
    return f"{at}:{secrets.token_urlsafe(BIG)}"


async def fill(cache: Cache) -> dict[str, str]:
    """Write until that fails; what was committed."""
    written: dict[str, str] = {}
    for at in range(40):
        text = value(at)
        try:
            await cache.set(f"k{at}", text)
        except StorageUnavailable:
            break
        written[f"k{at}"] = text
    assert 2 < len(written) < 40
    return written


async def test_a_write_through_is_told(world: World, disk: Path):
    cache = await world.cache("through")
    written = await fill(cache)
    key = f"k{len(written)}"
    with pytest.raises(StorageUnavailable, match=r"disk is full.*nothing was written"):
        await cache.set_many({key: value(0)})
    with pytest.raises(StorageUnavailable):
        await cache.atomic().check_absent("a").set("a", value(1)).set("b", value(2)).execute()
    assert [await cache.get(each) for each in (key, "a", "b")] == [None] * 3
    assert [await world.value(each) for each in (key, "a", "b")] == [MISSING] * 3
    assert await cache.get_many(list(written)) == written
    grow(disk)
    await cache.set(key, "fits")
    assert await cache.get(key) == await world.value(key) == "fits"
    for each, text in written.items():
        assert await world.value(each) == text


async def test_what_is_written_behind_waits_for_room(world: World, disk: Path):
    cache = await world.cache("behind", flush_interval=0.02)
    values = {f"k{at}": value(at) for at in range(20)}
    await cache.set_many(values)

    async def told() -> bool:
        return "disk is full" in str(await cache.get_health())

    await until(told, "a health that says so")
    assert pending(cache)
    assert await cache.get_many(list(values)) == values
    grow(disk)
    await until(lambda: not pending(cache), "the flush", 20)
    for key, text in values.items():
        assert await world.value(key) == text
