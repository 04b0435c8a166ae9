"""A warm start: what is fetched ahead, how fast, and which keys a run leaves to the next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.encoding import BytesBackend

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    Disk,
    InvalidArgument,
    InvalidKey,
    SQLite,
    TypeRequired,
    Warmed,
    WarmStart,
    WriteThrough,
)
from clusterdb.cache.cli import main
from clusterdb.cache.testing import FaultyBackend, ManualClock
from clusterdb.cache.types import Hit
from clusterdb.cache.warming import Turns


@dataclass
class User:
    name: str


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def config(place: Path, **settings: Any) -> CacheConfig:
    return CacheConfig(backend=Disk(path=place / "cache.db"), **settings)


async def tier(cache: Any, key: str, **options: Any) -> str:
    found = await cache.lookup(key, **options)
    return found.tier if isinstance(found, Hit) else "miss"


async def test_what_is_warmed_is_near(tmp_path: Path):
    async with Cache(config(tmp_path)) as one:
        await one.set_many({f"k{number}": number for number in range(250)})
    async with Cache(config(tmp_path)) as cache:
        told: list[Warmed] = []
        keys = [*[f"k{number}" for number in range(250)], "absent"]
        warmed = await cache.warm(keys, progress=told.append)
        assert warmed == Warmed(found=250, missing=1)
        assert told[-1] == warmed
        assert [each.found + each.missing for each in told] == [100, 200, 251]
        assert await tier(cache, "k0") == "near"
        assert await tier(cache, "k249") == "near"


async def test_keys_may_come_from_a_scan(tmp_path: Path):
    async with Cache(config(tmp_path)) as one:
        await one.set_many({"user:1": 1, "user:2": 2, "other": 3})
    async with Cache(config(tmp_path)) as cache:
        assert await cache.warm(cache.scan("user:*")) == Warmed(found=2)
        assert await tier(cache, "user:2") == "near"


def test_keys_may_come_from_a_scan_of_the_sync_door(tmp_path: Path):
    with Cache(config(tmp_path)).sync as cache:
        cache.set_many({"user:1": 1, "user:2": 2, "other": 3})
        assert cache.warm(cache.scan("user:*")) == Warmed(found=2)
        assert cache.warm(["new"], loader=lambda keys: dict.fromkeys(keys, 1)) == Warmed(found=1)
        assert cache.get("new") == 1


async def test_values_are_read_as_their_type(tmp_path: Path):
    async with Cache(config(tmp_path)) as one:
        await one.set_many({"a": User("Ada"), "b": User("Bob"), "wrong": 5})
    async with Cache(config(tmp_path)) as cache:
        with pytest.raises(TypeRequired):
            await cache.warm(["a", "b"])
        assert await cache.warm(["a", "wrong", "b"], type=User) == Warmed(found=2, failed=1)
        assert await tier(cache, "a", type=User) == "near"


async def test_what_nobody_has_is_loaded():
    asked: list[str] = []

    async def load(keys: list[str]) -> dict[str, str]:
        asked.extend(keys)
        return {key: key.upper() for key in keys if key != "nobody"}

    async with Cache() as cache:
        await cache.set("there", "as it was")
        warmed = await cache.warm(["there", "new", "nobody"], loader=load, ttl=60, tags=("t",))
        assert warmed == Warmed(found=2, missing=1)
        assert sorted(asked) == ["new", "nobody"]
        found: Any = await cache.lookup("new")
        assert (found.value, found.tags, found.expires_in is None) == ("NEW", ("t",), False)
        assert await cache.get("there") == "as it was"


async def test_what_a_storage_has_is_cached(tmp_path: Path):
    mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    stored = CacheConfig(coherence=CacheCoherence(mode=mode))
    async with Cache(stored) as one:
        await one.set_many({"a": 1, "b": 2})
    async with Cache(stored) as cache:
        assert await cache.warm(["a", "b", "absent"]) == Warmed(found=2, missing=1)
        assert await tier(cache, "a") == "memory"


async def test_no_more_at_a_time_than_said(clock: ManualClock):
    backend = FaultyBackend(BytesBackend(clock))
    async with Cache(backend=backend, clock=clock) as cache:
        gate = backend.hold("read")
        warming = asyncio.create_task(
            cache.warm([f"k{number}" for number in range(1000)], concurrency=3)
        )
        for _ in range(50):
            await asyncio.sleep(0)
        assert backend.calls["read"] == 3
        gate.set()
        assert await warming == Warmed(missing=1000)
        assert backend.calls["read"] == 10


async def test_a_backend_that_is_away_ends_it(clock: ManualClock):
    backend = FaultyBackend(BytesBackend(clock))
    async with Cache(backend=backend, clock=clock) as cache:
        backend.fail("read")
        with pytest.raises(BackendUnavailable):
            await cache.warm([f"k{number}" for number in range(1000)])
        assert backend.calls["read"] <= 4, "it went on without hope"
        backend.heal()


async def test_arguments_are_checked():
    async with Cache() as cache:
        for wrong in ({"rate": 0}, {"rate": -1}, {"concurrency": 0}, {"concurrency": True}):
            with pytest.raises(InvalidArgument):
                await cache.warm(["k"], loader=lambda keys: {}, **wrong)
        with pytest.raises(InvalidArgument, match="give warm\\(\\) a loader"):
            await cache.warm(["k"])
        with pytest.raises(InvalidKey):
            await cache.warm(["", "k"], loader=lambda keys: {})
        with pytest.raises(InvalidArgument, match="warm_start"):
            await cache.warm(loader=lambda keys: {})


@given(
    rate=st.floats(1, 1e5),
    steps=st.lists(st.tuples(st.integers(1, 100), st.floats(0, 10)), min_size=1, max_size=30),
)
def test_no_faster_than_the_rate(rate: float, steps: list[tuple[int, float]]):
    """What begins within any time is no more than the rate allows, but for the last batch."""
    turns, now = Turns(rate), 0.0
    begun: list[tuple[float, int]] = []
    for count, pause in steps:
        now += pause
        now += turns.wait(count, now)
        begun.append((now, count))
    for at, (start, _) in enumerate(begun):
        gone = 0
        for moment, count in begun[at:]:
            assert gone <= (moment - start) * rate * (1 + 1e-9) + 1e-6
            gone += count
    assert Turns(None).wait(1000, 5.0) == 0.0


# -- from run to run


async def test_the_hottest_keys_are_kept_for_the_next_run(tmp_path: Path):
    kept = WarmStart(path=tmp_path / "deep" / "hot.keys", max_keys=3)
    settings = config(tmp_path, warm_start=kept, regions=[CacheRegion("users"), CacheRegion("no")])
    async with Cache(settings) as cache:
        assert await cache.warm() == Warmed(), "there was no run before"
        users = cache.region("users", type=User)
        await cache.set_many({f"k{number}": number for number in range(20)})
        await users.set("ada", User("Ada"))
        for key in ("k1", "k2", "k3", "k4", "k5"):
            await cache.get(key)
        await users.get("ada")
    file = Path(kept.path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_bytes()) == {"default": ["k5", "k4", "k3"], "users": ["ada"]}
    async with Cache(settings) as cache:
        assert await cache.warm() == Warmed(found=3)
        assert await tier(cache, "k5") == "near"
        assert await cache.region("users", type=User).warm() == Warmed(found=1)
        assert await cache.region("no").warm() == Warmed()


async def test_copies_of_a_storage_are_warm_again(tmp_path: Path):
    """In memory, which is empty at each start: the hottest rows are read before they are asked."""
    mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    kept = WarmStart(path=tmp_path / "hot.keys", max_keys=2)
    settings = CacheConfig(coherence=CacheCoherence(mode=mode), warm_start=kept)
    async with Cache(settings) as cache:
        await cache.set_many({f"k{number}": number for number in range(10)})
        for key in ("k3", "k7"):
            await cache.get(key)
    async with Cache(settings) as cache:
        assert await tier(cache, "k1") == "storage"
        assert await cache.warm() == Warmed(found=2)
        assert await tier(cache, "k7") == "memory"


async def test_a_file_that_can_not_be_read_is_told_and_harms_nothing(tmp_path: Path, caplog):
    place = tmp_path / "hot.keys"
    settings = config(tmp_path, warm_start=WarmStart(path=place))
    for content in (b"", b"\xff\xfe", b"[1]", b'{"default": 5}'):
        place.write_bytes(content)
        caplog.clear()
        async with Cache(settings) as cache:
            assert await cache.warm() == Warmed()
        assert "can't be read" in caplog.text
    place.unlink()
    place.mkdir()
    async with Cache(settings) as cache:
        await cache.set("k", 1)
        await cache.get("k")
    assert "can't be written" in caplog.text


async def test_the_keys_of_an_async_iterator_are_not_all_held(tmp_path: Path):
    """A batch is fetched before the next one is asked for."""
    given_out = 0
    at_the_time: list[int] = []

    async def keys() -> AsyncIterator[str]:
        nonlocal given_out
        for number in range(10_000):
            given_out += 1
            yield f"k{number}"

    async with Cache(config(tmp_path)) as cache:
        await cache.warm(keys(), concurrency=2, progress=lambda _: at_the_time.append(given_out))
    assert at_the_time[0] <= 300


# -- the command


def run_command(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["warm", *words])
    return code, *capsys.readouterr()


def test_a_command_copies_rows_into_the_cache(tmp_path: Path, capsys):
    """Into a file that programs share: what it read is there afterwards, without the storage."""
    rows = {"type": "sqlite", "path": str(tmp_path / "rows.db")}
    stored = {"mode": {"type": "write_through", "backend": rows}}
    place = tmp_path / "cache.yaml"
    hot = tmp_path / "hot.keys"
    cached = {"backend": {"type": "disk", "path": str(tmp_path / "cache.db")}}
    whole = {"cache": cached, "coherence": stored, "warm_start": {"path": str(hot)}}
    place.write_text(yaml.safe_dump(whole))
    with Cache.from_file(str(place)).sync as cache:
        cache.set_many({"a": User("Ada"), "b": 2, "c": 3})
        cache.clear()  # of the copies
    hot.write_text(json.dumps({"default": ["c", "gone"]}))
    told = run_command(capsys, "--config", str(place), "a", "b", "absent")
    assert told == (0, "2 cached, 1 not in the storage\n", "")
    keys = tmp_path / "keys.txt"
    keys.write_text("a\nb\n\n")
    told = run_command(capsys, "--config", str(place), "--from", str(keys), "--json")
    assert json.loads(told[1]) == {"region": "default", "found": 2, "missing": 0, "failed": 0}
    told = run_command(capsys, "--config", str(place))
    assert told == (0, "1 cached, 1 not in the storage\n", "")
    assert json.loads(hot.read_text()) == {"default": ["c", "gone"]}, "the command wrote its own"
    with Cache(CacheConfig(backend=Disk(path=tmp_path / "cache.db"))).sync as cache:
        assert cache.get("b") == 2, "it is in the file, from where no storage is known"
        assert cache.get("a", type=User) == User("Ada")


def test_a_command_says_why_it_can_not(tmp_path: Path, capsys):
    url = f"disk://{tmp_path}/cache.db"
    with Cache.from_url(url).sync as cache:
        cache.set("k", 1)
    for words, said in (
        (["--url", url, "k"], "has no storage behind it to copy from"),
        (["--url", url], "which keys?"),
        (["--url", url, "k", "--from", "x"], "and not both"),
        (["--url", url, "--from", str(tmp_path / "absent")], "can't be read"),
        (["--url", url, "--region", "nobody", "k"], "no region 'nobody'"),
    ):
        code, _, told = run_command(capsys, *words)
        assert (code, said in told) == (2, True), told
