"""A memory backend that persists: warm after an orderly end, cold after any other, never wrong."""

import enum
import logging
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from clusterdb.cache import LRU, Cache, CacheConfig, CachePolicy, CacheRegion, Hit, Memory
from clusterdb.cache.testing import ManualClock


@dataclass
class User:
    name: str
    age: int


class Color(enum.Enum):
    RED = "red"


class Opaque:
    pass


@pytest.fixture
def config(tmp_path: Path) -> CacheConfig:
    return CacheConfig(
        backend=Memory(persist=tmp_path / "deep" / "cache.snapshot"),
        policy=CachePolicy(eviction=LRU(max_items=100)),
        regions=(CacheRegion("sessions"),),
    )


def snapshot(config: CacheConfig) -> Path:
    assert isinstance(config.backend, Memory)
    assert config.backend.persist is not None
    return Path(config.backend.persist)


VALUES = {
    "dict": {"name": "Ada", "tags": ["a", {"b"}], "pair": (1, 2.5)},
    "none": None,
    "bytes": b"\x00\xff",
    "big": 2**80,
    "user": User("Ada", 36),
    "color": Color.RED,
}


async def test_what_was_alive_comes_back(config):
    clock = ManualClock()
    async with Cache(config, clock=clock) as cache:
        await cache.set_many(VALUES, ttl=60, tags=("all",))
        await cache.set("for ever", 1)
        await cache.set("short", 1, ttl=5)
        await cache.set("dead", 1, tags=("gone",))
        await cache.invalidate_tag("gone")
        await cache.region("sessions").set("dict", "another")
    clock.advance(10)
    async with Cache(config, clock=clock) as cache:
        found = await cache.get_many([*VALUES, "for ever", "short", "dead"])
        assert found == VALUES | {"for ever": 1}
        assert type(found["user"]) is User
        assert await cache.region("sessions").get("dict") == "another"
        hit = await cache.lookup("dict")
        assert isinstance(hit, Hit)
        assert hit.expires_in == pytest.approx(50)
        assert hit.tags == ("all",)
        await cache.invalidate_tag("all")
        assert await cache.get_many(VALUES) == {}


async def test_the_order_of_use_comes_back(config):
    async with Cache(config) as cache:
        await cache.set_many({f"k{number}": number for number in range(100)})
        await cache.get("k0")
    async with Cache(config) as cache:
        await cache.set_many({"new": 1, "newer": 1})
        assert await cache.get("k0") == 0
        assert await cache.get_many(["k1", "k2", "k3"]) == {"k3": 3}


async def test_a_file_is_started_from_once(config):
    async with Cache(config) as cache:
        await cache.set("k", "v")
    assert stat.S_IMODE(snapshot(config).stat().st_mode) == 0o600
    assert stat.S_IMODE(snapshot(config).parent.stat().st_mode) == 0o700
    async with Cache(config) as cache, Cache(config) as second:
        assert not snapshot(config).exists()
        assert await cache.get("k") == "v"
        assert await second.get("k") is None


def test_after_a_crash_the_start_is_cold(config):
    """What was deleted after the snapshot was written must not come back."""
    script = f"""
import asyncio, os, signal
from clusterdb.cache import Cache, CacheConfig, Memory

async def main():
    async with Cache(CacheConfig(backend=Memory(persist={str(snapshot(config))!r}))) as cache:
        assert await cache.get("k") == "v"
        await cache.delete("k")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    with Cache(config).sync as cache:
        cache.set("k", "v")
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode == -9
    with Cache(config).sync as cache:
        assert cache.get("k") is None


async def test_what_can_t_be_told_from_bytes_is_said(config, caplog):
    async with Cache(config) as cache:
        await cache.set_many({"a": Opaque(), "b": Opaque(), "c": 1})
    assert "2 values of Opaque were not saved" in caplog.text
    async with Cache(config) as cache:
        assert await cache.get_many(["a", "b", "c"]) == {"c": 1}


@pytest.mark.parametrize("damage", ["cut", "bit", "foreign", "empty", "symlink", "directory"])
async def test_a_file_that_can_t_be_used_is_a_cold_start(config, damage, caplog, tmp_path):
    async with Cache(config) as cache:
        await cache.set("k", "v")
    path = snapshot(config)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "bit":
        path.write_bytes(data[:30] + bytes([data[30] ^ 1]) + data[31:])
    elif damage == "foreign":
        path.write_bytes(b"SQLite format 3\0" * 100)
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere") if damage == "symlink" else path.mkdir()
    with caplog.at_level(logging.WARNING):
        async with Cache(config) as cache:
            assert await cache.get("k") is None
            health = await cache.get_health()
            assert "started cold" in " ".join([check.detail for check in health.checks])
            assert "cache started cold" in caplog.text
            await cache.set("k", "new")
    if damage != "directory":
        async with Cache(config) as cache:
            assert await cache.get("k") == "new"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_folder_that_can_t_be_written(config, caplog):
    snapshot(config).parent.mkdir(mode=0o500)
    async with Cache(config) as cache:
        await cache.set("k", "v")
    assert "cache not saved" in caplog.text


async def test_a_place_that_can_t_be_a_file(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    config = CacheConfig(backend=Memory(persist=tmp_path / "file" / "snapshot"))
    async with Cache(config) as cache:
        await cache.set("k", "v")
    assert "the next start is cold" in caplog.text


async def test_opening_again_keeps_what_is_there(config):
    cache = Cache(config)
    backend = cache.access.runtime.backend
    await cache.set("k", "old")
    await backend.aclose()
    await backend.open()
    assert await cache.get("k") == "old"
    await cache.set("k", "new")
    await cache.aclose()
    async with Cache(config) as again:
        assert await again.get("k") == "new"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_the_file_to_its_parent(config):
    with Cache(config).sync as cache:
        cache.set("k", "parent")
        child = os.fork()
        if not child:
            cache.set("k", "child")
            cache.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not snapshot(config).exists()
    with Cache(config).sync as cache:
        assert cache.get("k") == "parent"


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_left_open_by_a_script_is_closed_at_its_end(kind, tmp_path):
    """No thread can be started any more then, and closing must do without."""
    path = tmp_path / "kept"
    backend = "Memory(persist" if kind == "memory" else "Disk(path"
    script = f"""
from clusterdb.cache import Cache, CacheConfig, Disk, Memory
cache = Cache(CacheConfig(backend={backend}={str(path)!r}))).sync
cache.set("k", "v")
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], check=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]
