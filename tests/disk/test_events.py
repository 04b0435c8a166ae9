"""What one process does is told to the others as events."""

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.layers import innermost

from clusterdb.cache import (
    Cache,
    CacheConfig,
    Cleared,
    Disk,
    EntryDeleted,
    EntrySet,
    Invalidated,
    TagInvalidated,
)

OTHER = """
import asyncio, os, sys
from clusterdb.cache import Cache, CacheConfig, Disk

async def main():
    async with Cache(CacheConfig(backend=Disk(path=sys.argv[1]))) as cache:
        await cache.set("k", 1, tags=("t",))
        await cache.delete("k")
        await cache.delete("never")
        await cache.invalidate("j")
        await cache.invalidate_tag("t")
        await cache.clear()
        print(os.getpid())

asyncio.run(main())
"""


async def test_a_process_that_has_ended_is_still_named(tmp_path: Path):
    path = tmp_path / "cache.db"
    async with Cache(CacheConfig(backend=Disk(path=path))) as cache, cache.get_events() as events:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", OTHER, str(path), "--password=secret"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        origin = f"{socket.gethostname()}:{done.stdout.strip()}"
        told = [await asyncio.wait_for(anext(aiter(events)), 5) for _ in range(5)]
        assert [type(event) for event in told] == [
            EntrySet, EntryDeleted, Invalidated, TagInvalidated, Cleared,
        ]  # fmt: skip
        assert {event.origin for event in told} == {origin}
        await cache.set("last", 1)
        event = await asyncio.wait_for(anext(aiter(events)), 5)
        assert isinstance(event, EntrySet)
        assert event.key == "last", "deleting what was not there was told"


async def test_members_are_named_without_their_arguments(tmp_path: Path):
    config = CacheConfig(backend=Disk(path=tmp_path / "cache.db"))
    async with Cache(config) as cache:
        [member] = (await innermost(cache).describe()).members
        assert (member.pid, member.host) == (os.getpid(), socket.gethostname())
        assert member.program == Path(sys.argv[0]).name
