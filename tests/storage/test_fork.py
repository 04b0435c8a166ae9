"""A storage that was open before a fork is the parent's; the child opens it again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.house.sources import ROOT

SCRIPT = """
import asyncio, os, sys
from tests.storage.worker import config_of
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.errors import StorageUnavailable
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange

storage = make_storage(config_of(sys.argv[1]), SystemClock())

async def write(key):
    [written] = await storage.write([RowChange("main", key, Encoded(b"v", 5))])
    return written.version

async def child():
    try:
        await storage.read("main", ["k"])
    except StorageUnavailable as error:
        assert "before a fork" in str(error), error
    else:
        raise AssertionError("the parent's connection was used")
    await storage.open()
    assert await write("k") == 2
    assert await write("child") == 1
    await storage.aclose()

async def before():
    await storage.open()
    await write("k")
    await asyncio.gather(*[storage.read("main", ["k"]) for _ in range(5)])

async def after():
    assert await write("k") == 3
    assert (await storage.read("main", ["child"]))[0] is not None
    await storage.aclose()

loop = asyncio.new_event_loop()  # between two runs: a child must not touch a loop that it shares
loop.run_until_complete(before())
pid = os.fork()
if not pid:
    asyncio.run(child())
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0, status
loop.run_until_complete(after())
loop.close()
print("done", flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_child_opens_it_again(kind: str, request: pytest.FixtureRequest, tmp_path: Path):
    config = {"path": str(tmp_path / "storage.db")}
    if kind == "postgresql":
        config = {"url": request.getfixturevalue("postgres").url}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
