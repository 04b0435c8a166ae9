"""The sync door over a file: calls from threads, without a hop into the event loop."""

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.layers import innermost

from clusterdb.cache import BackendUnavailable, Cache, CacheConfig, Disk, GetOptions
from clusterdb.cache.sync import SyncCache


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[SyncCache]:
    with Cache(CacheConfig(backend=Disk(path=tmp_path / "cache.db"))).sync as cache:
        yield cache


def test_calls_do_not_go_through_the_loop(cache, monkeypatch):
    cache.set("k", 1)
    monkeypatch.setattr("clusterdb.cache.sync.run_in", None)
    assert cache.runtime.immediate
    assert cache.set("k", 2, tags=("t",))
    assert cache.get("k") == 2
    assert cache.get("k", options=GetOptions(consistent=True)) == 2
    assert cache.increment("n", 5) == 5
    assert cache.set_many({f"k{number}": number for number in range(600)}) == 600
    assert len(cache.get_many([f"k{number}" for number in range(600)])) == 600

    assert cache.delete("k")
    cache.invalidate_tag("t")
    assert cache.clear() == 601
    assert cache.get_statistics().total.items == 0


def test_reads_of_one_process_never_go_back(tmp_path):
    """Several writers and readers of the same keys; each value is larger than the one before it."""
    config = CacheConfig(backend=Disk(path=tmp_path / "cache.db"))
    with Cache(config).sync as cache, Cache(config).sync as other:
        problems: list[str] = []
        done = threading.Event()
        floors = {f"k{number}": 0 for number in range(3)}

        def write(key: str) -> None:
            for value in range(1, 151):  # the last one has no tag
                cache.set(key, value, tags=("t",) if value % 3 else ())
                floors[key] = value
                if value % 10 == 0:
                    cache.invalidate_tag("t")

        def read(seed: int) -> None:
            draw = random.Random(seed)
            last = dict.fromkeys(floors, 0)
            while not done.is_set():
                key = draw.choice(list(floors))
                floor = max(last[key], floors[key])
                options = GetOptions(consistent=True) if draw.random() < 0.2 else None
                found = cache.get(key, options=options)
                if found is None:  # invalidated
                    continue
                if found < floor:
                    problems.append(f"{key}: {found} after {floor}")
                last[key] = found

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        writers = [threading.Thread(target=write, args=(key,)) for key in floors]
        for thread in (*readers, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        for thread in readers:
            thread.join()
        assert problems == []
        assert other.get_many(floors, options=GetOptions(consistent=True)) == floors


async def test_a_consistent_read_makes_way_for_what_it_read(tmp_path):
    config = CacheConfig(backend=Disk(path=tmp_path / "cache.db"))
    async with Cache(config) as one, Cache(config) as two:
        await one.set("k", "old")
        assert await two.get("k") == "old"
        # In one turn of the loop: `two` has not heard of it yet.
        backend = innermost(one)
        from clusterdb.cache.protocols import Put

        codec = one.access.state.codec
        assert codec is not None
        await backend.write("default", [Put("k", codec.encode("new"))])
        assert await two.get("k", options=GetOptions(consistent=True)) == "new"
        assert await two.get("k") == "new"


def test_after_the_file_was_replaced_calls_go_on(tmp_path, cache):
    cache.set("k", 1)
    for path in tmp_path.iterdir():
        if not path.name.endswith(".sock"):
            path.unlink()
    with pytest.raises(BackendUnavailable, match="deleted or replaced"):
        cache.set("k", 2)
    assert cache.set("k", 3)
    assert cache.get("k") == 3


async def test_a_loop_that_does_not_run_is_not_relied_on(tmp_path):
    cache = Cache(CacheConfig(backend=Disk(path=tmp_path / "cache.db")))
    backend = innermost(cache)
    assert not backend.inline
    await cache.set("k", 1)
    assert await asyncio.to_thread(lambda: backend.inline)
    assert await asyncio.to_thread(cache.sync.get, "k") == 1
    await cache.aclose()
    assert not backend.inline
