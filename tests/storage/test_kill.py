"""A writing process is killed: what it was told is there is there, and nothing is half done."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.house.sources import ROOT
from tests.storage.worker import config_of

from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, Storage

Started = Callable[[str, str], "subprocess.Popen[str]"]

pytestmark = pytest.mark.server


@pytest.fixture
def started() -> Iterator[Started]:
    running: list[subprocess.Popen[str]] = []

    def start(config: str, moment: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-m", "tests.storage.worker", config, moment]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        running.append(child)
        return child

    yield start
    for child in running:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


async def opened(config: str) -> Storage:
    storage = make_storage(config_of(config), SystemClock(), "us")
    await storage.open()
    return storage


async def line(child: Any) -> str:
    found: str = await asyncio.to_thread(child.stdout.readline)
    return found.strip()


async def values(storage: Storage, *keys: str) -> list[str | None]:
    rows = await storage.read("main", keys)
    return [None if row is None else row.value.payload.decode() for row in rows]


async def test_killed_before_its_commit_it_wrote_nothing(config: str, started: Started):
    storage = await opened(config)
    await storage.write([RowChange("main", "a", Encoded(b"old", 5))])
    position = await storage.position()
    child = started(config, "before-commit")
    assert await line(child) == "before-commit"
    child.kill()
    child.wait()

    # the locks of the dead are given back: the write waits for that, and for nothing else
    await storage.write([RowChange("main", "b", Encoded(b"ours", 5))])
    assert await values(storage, "a", "b") == ["old", "ours"]
    changes, _ = await storage.changes(position, 10)
    assert [(change.key, change.origin) for change in changes] == [("b", "us")]
    await storage.aclose()


async def test_killed_after_its_commit_all_is_there_and_told(config: str, started: Started):
    storage = await opened(config)
    position = await storage.position()
    child = started(config, "after-commit")
    assert await line(child) == "after-commit"
    child.kill()
    child.wait()

    assert await values(storage, "a", "b") == ["new", "new"]
    changes, _ = await storage.changes(position, 10)
    assert [(change.key, change.origin) for change in changes] == [
        ("a", "worker"),
        ("b", "worker"),
    ]
    await storage.aclose()


async def test_killed_in_the_middle_no_acknowledged_write_is_lost(config: str, started: Started):
    storage = await opened(config)
    child = started(config, "never")
    for _ in range(50):
        last = int(await line(child))
    child.kill()
    child.wait()
    assert child.stdout is not None
    told = [int(each) for each in child.stdout.read().split()]
    last = max([last, *told])

    [row] = await storage.read("main", ["n"])
    assert row is not None
    found = int(row.value.payload)
    assert found - last in (0, 1)  # one more: it was killed before it could say so
    assert row.version == found + 1
    await storage.aclose()
