"""The file is deleted or replaced while it is in use: one call says so, the next opens what is
there now, and nothing is written where nobody will find it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.disk.processes import Spawn, check_file
from tests.disk.worker import make
from tests.layers import innermost

from clusterdb.cache import BackendUnavailable, GetOptions

FRESH = GetOptions(consistent=True)


async def write_until_done(cache: Any, key: str) -> int:
    """How many attempts failed before a write was acknowledged."""
    for failed in range(3):
        try:
            await cache.set(key, "new")
        except BackendUnavailable as error:
            if "deleted or replaced" not in str(error):
                raise
        else:
            return failed
    raise AssertionError("it never recovered")


@pytest.mark.parametrize("how", ["deleted", "all deleted", "folder deleted", "replaced", "renamed"])
async def test_the_file_goes(how: str, path: Path, spawn: Spawn, tmp_path: Path):
    path = tmp_path / "folder" / "cache.db"
    other = tmp_path / "other.db"
    async with make(str(other)) as cache:
        await cache.set("of", "other")
    async with make(str(path)) as cache:
        await cache.set("old", "value")
        assert await cache.get("old") == "value"
        if how == "deleted":
            path.unlink()
        elif how == "all deleted":
            for file in path.parent.glob("cache.db*"):
                file.unlink()
        elif how == "folder deleted":
            shutil.rmtree(path.parent)
        elif how == "replaced":
            other.replace(path)
        else:
            path.rename(path.with_name("moved.db"))
        assert await write_until_done(cache, "k") == 1
        assert await cache.get("k", options=FRESH) == "new"
        assert await cache.get("old") is None
        assert await cache.get("of") == ("other" if how == "replaced" else None)
        assert spawn(path=path).tell("await cache.get('k')") == "new"
    check_file(path)


async def test_the_near_tier_goes_with_the_file(path: Path):
    async with make(str(path), max_staleness=0.05) as cache:
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        backend = innermost(cache)
        Path(shutil.copy(path, path.with_name("copy"))).replace(path)
        backend._attachment.attached.poll()
        assert not backend._near.answers("default", backend._clock.now())
        assert len(backend._near.table("default")) == 0


async def test_the_log_of_recent_writes_is_deleted(path: Path, spawn: Spawn):
    """What it held is not lost, as the processes that have it open write it to the file."""
    async with make(str(path)) as cache:
        for number in range(50):
            await cache.set(f"k{number}", number)
        path.with_name("cache.db-wal").unlink()
        assert await write_until_done(cache, "new") == 1
        assert [await cache.get(f"k{number}") for number in range(50)] == list(range(50))
        other = spawn()
        assert other.tell("[await cache.get(f'k{n}') for n in range(50)]") == list(range(50))
        assert other.tell("await cache.get('new')") == "new"
        assert other.tell("await cache.set('more', 1)")
        assert await cache.get("more") == 1
    assert other.end() == 0
    check_file(path)
