"""Caches and databases that fail in the middle: who is told what, and what is left."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.redis.servers import Server, missing
from tests.storage.postgres import PostgresServer
from tests.storage.postgres import start as start_postgres
from tests.write_modes.world import MODES, World, until

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    ConfigError,
    LoadConfig,
    Overloaded,
    RowRefused,
    StorageUnavailable,
)
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import (
    Consistent,
    Disk,
    Memory,
    PartitioningConfig,
    PostgreSQL,
    Redis,
    SQLite,
    WriteBehind,
    WriteThrough,
)
from clusterdb.cache.factory import make_storage, stored_regions
from clusterdb.cache.failpoints import FAILPOINTS
from clusterdb.cache.rows import RowChange
from clusterdb.cache.storage.journal import read_journals
from clusterdb.cache.testing import FaultyBackend, FaultyStorage
from clusterdb.cache.write_modes import behind


class Scene:
    """One cache whose backend and storage fail on demand."""

    def __init__(self, folder: Path, mode: str, consistency: str, options: dict[str, Any]) -> None:
        sqlite = SQLite(path=folder / "rows.db")
        coherence = CacheCoherence(
            mode=MODES[mode](backend=sqlite, **options),
            consistency=consistency,  # type: ignore[arg-type]
        )
        clock = SystemClock()
        self.backend = FaultyBackend(MemoryBackend(clock))
        self.rows = make_storage(sqlite, clock, "us")
        self.storage = FaultyStorage(self.rows)
        config = CacheConfig(coherence=coherence)
        self.cache = Cache(config, backend=self.backend, storage=self.storage)

    async def value(self, key: str) -> object:
        [row] = await self.rows.read("default", [key])
        return None if row is None else int(row.value.payload)


@pytest.fixture
async def scene(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scene]:
    mode, consistency, options = getattr(request, "param", ("through", "bounded", {}))
    if mode == "behind":
        options = {"journal": tmp_path / "journals", "flush_interval": 0.02, **options}
    made = Scene(tmp_path, mode, consistency, options)
    async with made.cache:
        yield made
        made.backend.heal()
        made.storage.heal()


@pytest.mark.parametrize("scene", [("through", "strong", {})], indirect=True)
async def test_without_a_fence_a_strong_write_fails(scene: Scene):
    await scene.cache.set("k", 1)
    scene.backend.fail("fence")
    with pytest.raises(BackendUnavailable):
        await scene.cache.set("k", 2)
    assert await scene.value("k") == 1
    assert await scene.cache.get("k") == 1
    await scene.cache.write_through("k", 3, consistency="bounded")
    assert await scene.value("k") == 3
    scene.backend.heal()

    async def told() -> bool:
        return await scene.cache.get("k") == 3

    await until(told, "the new value")


async def test_without_a_fence_a_bounded_write_is_relayed(scene: Scene):
    await scene.cache.set("k", 1)
    scene.backend.fail("fence")
    scene.backend.fail("write")
    await scene.cache.set("k", 2)
    assert await scene.value("k") == 2
    assert await scene.cache.get("k") == 1, "the old copy went without the relay"
    scene.backend.heal()
    scene.backend.fail("fence")

    async def told() -> bool:
        return await scene.cache.get("k") == 2

    await until(told, "the relay")


async def test_a_fill_that_fails_leaves_absence(scene: Scene):
    await scene.cache.set("k", 1)
    scene.backend.fail("fill")
    await scene.cache.set("k", 2)
    assert await scene.cache.get("k") == 2
    scene.backend.heal()
    assert await scene.cache.get("k") == 2


async def test_a_database_that_is_away_changes_nothing(scene: Scene):
    await scene.cache.set("k", 1)
    scene.storage.fail("write", error=StorageUnavailable("away"))
    with pytest.raises(StorageUnavailable, match="away"):
        await scene.cache.set("k", 2)
    scene.storage.heal()
    assert await scene.cache.get("k") == 1
    await scene.cache.set("k", 3)
    assert await scene.cache.get("k") == 3


async def test_one_callers_cancellation_harms_nobody(scene: Scene):
    gate = scene.storage.hold("write")
    writes = [asyncio.create_task(scene.cache.set(f"k{at}", at)) for at in range(5)]
    await until(lambda: scene.storage.calls["write"], "the group")
    late = [asyncio.create_task(scene.cache.set(f"late{at}", at)) for at in range(2)]
    await asyncio.sleep(0)
    writes[2].cancel()
    late[0].cancel()
    gate.set()
    done = await asyncio.gather(*writes, *late, return_exceptions=True)
    assert [answer for answer in done if answer is not True].__len__() == 2
    assert [await scene.value(f"k{at}") for at in (0, 1, 3, 4)] == [0, 1, 3, 4]
    assert await scene.value("late1") == 1
    assert await scene.cache.get("k2") == await scene.value("k2")


async def test_writes_that_come_together_share_commits(scene: Scene):
    await asyncio.gather(*[scene.cache.set(f"k{at}", at) for at in range(300)])
    assert scene.storage.calls["write"] <= 5
    assert await scene.value("k299") == 299


async def test_a_read_of_before_is_not_cached_after(scene: Scene):
    """I1: a miss reads the old row, and is held up until a write is over."""
    await scene.rows.write([RowChange("default", "k", _int(1))])
    asked, go_on = asyncio.Event(), asyncio.Event()
    original = scene.rows.read

    async def slow(region: str, keys: Any) -> Any:
        rows = await original(region, keys)
        asked.set()
        await go_on.wait()
        return rows

    scene.storage.read = slow  # type: ignore[method-assign]
    reading = asyncio.create_task(scene.cache.get("k"))
    await asked.wait()
    await scene.cache.set("k", 2)
    go_on.set()
    assert await reading in (1, 2)
    assert await scene.cache.get("k") == 2
    scene.storage.read = original  # type: ignore[method-assign]
    assert await scene.cache.get("k") == 2


def _int(value: int) -> Any:
    from clusterdb.cache.codec import CodecId, Encoded

    return Encoded(b"%d" % value, CodecId.INTEGER)


async def test_a_reader_between_commit_and_put_sees_the_row(scene: Scene):
    await scene.cache.set("k", 1)
    seen: list[object] = []

    async def look() -> None:
        seen.append(await scene.cache.get("k"))

    FAILPOINTS["after-commit-before-put"] = look
    try:
        await scene.cache.set("k", 2)
    finally:
        del FAILPOINTS["after-commit-before-put"]
    assert seen == [2]
    assert await scene.cache.get("k") == 2


@pytest.mark.parametrize("scene", [("behind", "bounded", {})], indirect=True)
async def test_a_refused_row_is_put_aside(scene: Scene, tmp_path: Path):
    original = scene.rows.write

    async def refusing(changes: Any, **options: Any) -> Any:
        outcomes = await original([each for each in changes if each.key != "bad"], **options)
        found = iter(outcomes)
        return [
            RowRefused("bad", "23514", "a constraint") if each.key == "bad" else next(found)
            for each in changes
        ]

    scene.storage.write = refusing  # type: ignore[method-assign]
    await scene.cache.set_many({"good": 1, "bad": 2, "better": 3})
    await until(lambda: _behind(scene.cache).pending == 0, "the flush")
    assert [await scene.value(key) for key in ("good", "bad", "better")] == [1, None, 3]
    assert await scene.cache.get("bad") is None
    [aside] = await _behind(scene.cache).aside()
    assert (aside.key, aside.code) == ("bad", "23514")
    assert read_journals(tmp_path / "journals")[1] == [aside]
    health = await scene.cache.get_health()
    assert "put aside" in str(health)


@pytest.mark.parametrize("scene", [("behind", "bounded", {})], indirect=True)
async def test_a_row_that_is_locked_keeps_no_other_from_being_written(scene: Scene):
    """As long as somebody has its lock, each batch that it is in fails."""
    original, locked = scene.rows.write, True

    async def write(changes: Any, **options: Any) -> Any:
        if locked and any(change.key == "k7" for change in changes):
            raise StorageUnavailable("another transaction has held the lock of a row")
        return await original(changes, **options)

    scene.storage.write = write  # type: ignore[method-assign]
    values = {f"k{at}": at for at in range(20)}
    await scene.cache.set_many(values)
    await until(lambda: _behind(scene.cache).pending == 1, "the flush of all others")
    assert [await scene.value(key) for key in values] == [
        None if key == "k7" else value for key, value in values.items()
    ]
    await scene.cache.set("later", 1)
    await until(lambda: _behind(scene.cache).pending == 1, "the flush of a later one")
    assert "has held the lock" in str(await scene.cache.get_health())
    assert await scene.cache.increment("other") == 1
    with pytest.raises(StorageUnavailable, match="has held the lock"):
        await scene.cache.increment("k7")
    locked = False
    await until(lambda: _behind(scene.cache).pending == 0, "the flush")
    assert await scene.value("k7") == 7


def _behind(cache: Cache) -> behind.Behind:
    stored = cache.access.runtime.stored
    assert stored is not None
    [store] = stored.stores
    return store.behinds["default"]


@pytest.mark.parametrize("scene", [("behind", "bounded", {})], indirect=True)
async def test_too_much_pending_is_refused(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(behind, "_MOST", 3)
    monkeypatch.setattr(behind, "_PATIENCE", 0.05)
    scene.storage.fail("write", error=StorageUnavailable("away"))
    for at in range(3):
        await scene.cache.set(f"k{at}", at)
    with pytest.raises(Overloaded) as caught:
        await scene.cache.set("k3", 3)
    assert caught.value.pending == 3
    assert await scene.cache.get("k3") is None
    with pytest.raises(StorageUnavailable):
        await scene.cache.increment("k0")
    scene.storage.heal()
    monkeypatch.setattr(behind, "_PATIENCE", 10)
    await scene.cache.set("k3", 3)
    await until(lambda: _behind(scene.cache).pending == 0, "the flush")
    assert [await scene.value(f"k{at}") for at in range(4)] == [0, 1, 2, 3]


@pytest.mark.server
@pytest.mark.parametrize("mode", ["through", "behind"])
async def test_a_database_that_restarts(tmp_path: Path, postgres: PostgresServer, mode: str):
    """Nothing that was acknowledged is lost, and the writes go on by themselves."""
    server = start_postgres()
    try:
        async with World(Memory(), PostgreSQL(url=server.url), str(tmp_path / "journals")) as world:
            cache = await world.cache(mode)
            acknowledged: dict[str, int] = {}
            crashed = asyncio.Event()

            async def write() -> None:
                for at in range(2000):
                    try:
                        await cache.set(f"k{at}", at)
                        acknowledged[f"k{at}"] = at
                    except (StorageUnavailable, BackendUnavailable):
                        await asyncio.sleep(0.05)
                    if at == 100:
                        crashed.set()
                    if crashed.is_set() and len(acknowledged) > 300:
                        return

            writing = asyncio.create_task(write())
            await crashed.wait()
            await asyncio.to_thread(server.crash)
            await asyncio.to_thread(server.start)
            await writing
            if mode == "behind":
                await until(lambda: _behind(cache).pending == 0, "the flush", 30)
            for key, value in acknowledged.items():
                assert await world.value(key) == value
                assert await cache.get(key) == value
    finally:
        server.remove()


@pytest.mark.server
@pytest.mark.skipif(bool(missing()), reason="redis-server is not installed")
@pytest.mark.parametrize("storage", ["sqlite", "postgres"], indirect=True)
async def test_redis_is_lost_while_rows_are_written_behind(tmp_path: Path, storage: object):
    """The journal has what was accepted; the copies come back from storage."""
    server = Server(tmp_path / "redis").start()
    try:
        redis = Redis(urls=[f"redis://127.0.0.1:{server.port}"])
        async with World(redis, storage, str(tmp_path / "journals")) as world:
            cache = await world.cache("behind", flush_interval=0.2)
            await cache.set_many({f"k{at}": at for at in range(50)})
            server.kill()
            await until(lambda: _behind(cache).pending == 0, "the flush")
            for at in range(50):
                assert await world.value(f"k{at}") == at
            server.start()

            async def back() -> bool:
                try:
                    return await cache.get("k7") == 7
                except BackendUnavailable:
                    return False

            await until(back, "the cache", 20)
    finally:
        server.kill()


async def test_a_database_that_is_away_at_the_start(tmp_path: Path):
    scene = Scene(tmp_path, "through", "bounded", {})
    scene.storage.fail("open", error=StorageUnavailable("not there yet"))
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="not there yet"):
            await scene.cache.get("k")
    scene.storage.heal()
    async with scene.cache:
        await scene.cache.set("k", 1)
        assert await scene.cache.get("k") == 1


def test_what_is_pending_goes_on_in_another_loop(tmp_path: Path):
    folder = tmp_path / "journals"
    options = {"journal": folder, "flush_interval": 60}
    scene = Scene(tmp_path, "behind", "bounded", options)

    async def accept(key: str) -> None:
        await scene.cache.set(key, 1)

    asyncio.run(accept("a"))
    asyncio.run(accept("b"))
    assert [intent.key for intent in read_journals(folder)[0]] == ["a", "b"]

    async def end() -> Sequence[object]:
        await scene.cache.set("c", 1)
        await scene.cache.aclose()
        reader = make_storage(SQLite(path=tmp_path / "rows.db"), SystemClock())
        await reader.open()
        rows = await reader.read("default", ["a", "b", "c"])
        await reader.aclose()
        return rows

    assert None not in asyncio.run(end())
    assert read_journals(folder)[0] == []


@pytest.mark.parametrize(
    ("backend", "durability"),
    [
        ("memory", "journal"),
        pytest.param("redis", "replicated", marks=pytest.mark.server),
    ],
    indirect=["backend"],
)
async def test_what_is_left_goes_to_the_database_of_its_region(
    backend: Any, durability: str, tmp_path: Path
):
    """Several modes keep what they accept in one place. Each takes what is its own from there, and
    leaves what is nobody's.
    """

    def config(*names: str) -> CacheConfig:
        regions = [
            CacheRegion(
                name,
                mode=WriteBehind(
                    backend=SQLite(path=tmp_path / f"{name}.db"),
                    durability=durability,  # type: ignore[arg-type]
                    journal=tmp_path / "journals",
                    flush_interval=60,
                ),
            )
            for name in names
        ]
        return CacheConfig(name="several", backend=backend, regions=regions)

    cache = Cache(config("a", "b", "c"))
    for name in "abc":
        await cache.region(name).set("k", name)
    stored = cache.access.runtime.stored
    assert stored is not None
    for store in stored.stores:
        for each in store.behinds.values():
            each._queue = type(each._queue)()  # as if it had died here
    await cache.aclose()

    async with Cache(config("b", "a")) as some:
        assert "put aside" not in str(await some.get_health())
    assert [await kept(tmp_path, name) for name in "abc"] == [True, True, False]
    async with Cache(config("c")):
        pass
    assert [await kept(tmp_path, name) for name in "abc"] == [True, True, True]
    assert not list((tmp_path / "journals").glob("*"))


async def kept(folder: Path, region: str) -> bool:
    """Whether the database of a region has its row."""
    rows = make_storage(SQLite(path=folder / f"{region}.db"), SystemClock())
    await rows.open()
    [row] = await rows.read(region, ["k"])
    await rows.aclose()
    return row is not None


def test_a_fork_leaves_the_parents_journal_alone(tmp_path: Path):
    """The lock on the journal is the parent's alone, and ends with it."""
    folder = tmp_path / "journals"
    scene = Scene(tmp_path, "behind", "bounded", {"journal": folder, "flush_interval": 60})

    async def accept() -> None:
        await scene.cache.set("parent", 1)

    asyncio.run(accept())
    [journal] = folder.glob("*.journal")

    def opened() -> int:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [str(link) for link in links].count(str(journal))

    assert opened() == 2
    child = os.fork()
    if not child:
        os._exit(opened())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    async def end() -> None:
        await scene.cache.set("more", 1)
        await scene.cache.aclose()

    asyncio.run(end())
    assert not list(folder.glob("*"))


async def test_a_cache_file_hides_the_relays_region(tmp_path: Path):
    world = World(Disk(path=tmp_path / "c.db"), SQLite(path=tmp_path / "r.db"), str(tmp_path / "j"))
    async with world:
        cache = await world.cache("through")
        await cache.set("k", 1)
        assert set((await cache.get_statistics()).regions) == {"default"}
        assert set(stored_regions(world.config("through"))) == {"default"}


async def test_a_queued_write_that_fails_is_told(scene: Scene, caplog: pytest.LogCaptureFixture):
    scene.storage.fail("write", error=StorageUnavailable("away"))
    await scene.cache.write_through("k", 1, sync=False)
    await until(lambda: "queued write of 'k'" in caplog.text, "the warning")


async def test_a_mode_stays_as_it_is(scene: Scene, tmp_path: Path):
    other = CacheCoherence(mode=MODES["around"](backend=SQLite(path=tmp_path / "rows.db")))
    with pytest.raises(ConfigError, match="can't change while the cache runs"):
        await scene.cache.configure_coherence(other)
    config = scene.cache.config.coherence
    assert config is not None
    await scene.cache.configure_coherence(replace(config, consistency="strong"))
    await scene.cache.set("k", 1)
    async with Cache() as plain:
        mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
        with pytest.raises(ConfigError, match="built without a storage"):
            await plain.create_region(CacheRegion("stored", mode=mode))


async def test_a_region_of_a_running_cache_may_have_a_mode_that_is_there(tmp_path: Path):
    """Storages are opened with the cache; a new one is refused, and leaves all as it was."""
    through = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    others: list[WriteThrough | WriteBehind] = [
        WriteThrough(backend=SQLite(path=tmp_path / "other.db")),
        WriteBehind(backend=through.backend, journal=tmp_path / "journals"),
    ]
    async with Cache(CacheConfig(regions=[CacheRegion("a", mode=through)])) as cache:
        for mode in others:
            with pytest.raises(ConfigError, match="build a new Cache with it"):
                await cache.create_region(CacheRegion("b", mode=mode))
            assert cache.regions == ("default", "a")
        late = await cache.create_region(CacheRegion("b", mode=through))
        await late.write_through("k", 1)
        assert await late.get("k") == 1
        assert await cache.get("k") is None


def test_modes_that_cannot_hold_are_refused(tmp_path: Path):
    mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    coherence = CacheCoherence(mode=mode)
    with pytest.raises(ConfigError, match="leave persist out"):
        CacheConfig(backend=Memory(persist=tmp_path / "kept"), coherence=coherence)
    with pytest.raises(ConfigError, match="refresh_ahead"):
        CacheConfig(
            coherence=coherence,
            regions=[CacheRegion("r", loads=LoadConfig(refresh_ahead=1))],
        )
    with pytest.raises(ConfigError, match="needs a Redis backend"):
        CacheConfig(
            coherence=CacheCoherence(
                mode=WriteBehind(backend=mode.backend, durability="replicated")
            )
        )
    ring = Redis(urls=["redis://a:1", "redis://b:1"])
    with pytest.raises(ConfigError, match="no one server"):
        CacheConfig(
            backend=ring,
            partitioning=PartitioningConfig(strategy=Consistent(replicas=2)),
            coherence=coherence,
        )


async def test_figures_of_a_storage_are_metrics(scene: Scene):
    await scene.cache.set("k", 1)
    await scene.cache.invalidate("k")
    await scene.cache.get("k")
    found = {
        each.name: each.value
        for each in await scene.cache.get_metrics()
        if each.name.startswith("cache_storage_")
    }
    assert found["cache_storage_rows_written"] == 1
    assert found["cache_storage_rows_read"] == 1
    assert found["cache_storage_pending"] == 0
