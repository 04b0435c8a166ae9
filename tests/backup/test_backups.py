"""Backups as a user meets them: made, listed, checked, restored and removed."""

import asyncio
import dataclasses
import io
import random
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.backup.conftest import KEY, OTHER_KEY, backup_config
from tests.effort import times

from clusterdb.cache import (
    BackupEncryption,
    BackupError,
    Cache,
    CacheConfig,
    ConfigError,
    Directory,
    Disk,
    EntrySet,
    InvalidArgument,
    Memory,
    UnknownBackup,
    UnknownRegion,
    WrongKey,
)
from clusterdb.cache.backup import Throttle
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.testing.clock import ManualClock


@dataclasses.dataclass
class User:
    name: str


class WallClock(SystemClock):
    """The clock of the wall is set by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def wall(self) -> float:
        return super().wall() + self.ahead


async def contents(cache: Cache, region: str = "default") -> dict[str, Any]:
    face = cache.region(region)
    return await face.get_many([key async for key in face.scan("*")])


VALUES = {"a": 1, "b": "text", "c": b"bytes", "d": [1, None, {"x": 2.5}], "e": None, "f": 2**70 % 9}


@pytest.mark.parametrize("encryption", [None, BackupEncryption(keys=[KEY])])
async def test_what_was_lost_comes_back(make, encryption):
    async with make(encryption=encryption) as cache:
        await cache.set_many(VALUES)
        await cache.region("other").set("a", "another", tags=("t",))
        made = await cache.backups.create()
    assert (made.kind, made.entries, made.stored, made.unreadable) == ("full", 7, 7, 0)
    assert made.encrypted == (encryption is not None)

    async with make(encryption=encryption) as cache:
        report = await cache.backups.restore()

        assert (report.restored, report.kept, report.expired, report.failed) == (7, 0, 0, 0)
        assert await contents(cache) == VALUES
        assert await contents(cache, "other") == {"a": "another"}
        await cache.invalidate_tag("t")  # the tag lives
        assert await contents(cache, "other") == {}


@pytest.mark.server
async def test_a_bucket_does_as_well(make, bucket):
    async with make(bucket.config(), full_every=2) as cache:
        await cache.set_many(VALUES)
        await cache.backups.create()
        await cache.delete("a")
        await cache.backups.create()
        assert [each.kind for each in await cache.backups.list()] == ["full", "incremental"]
        assert (await cache.backups.verify()).good

    async with make(bucket.config()) as cache:
        assert (await cache.backups.restore()).restored == 5
        assert await cache.get("a") is None


async def test_objects_come_back_as_they_were(make):
    async with make() as cache:
        await cache.set("u", User("Ann"))
        await cache.backups.create()

    async with make() as cache:
        await cache.backups.restore()
        assert await cache.get("u") == User("Ann")


async def test_what_can_not_be_backed_up_is_named_and_the_rest_is(make):
    async with make() as cache:
        await cache.set_many({"good": 1, "bad": object()})

        made = await cache.backups.create()

        assert (made.entries, made.unreadable) == (1, 1)
        assert "'bad'" in made.problems[0]


async def test_other_tools_read_what_a_backup_holds(make, place):
    async with make() as cache:
        await cache.set("key:1", "x", ttl=1000, tags=("t",))
        made = await cache.backups.create()

    [file] = (place / "main" / made.id).glob("entries-*.avro")
    [record] = list[Any](fastavro.reader(io.BytesIO(file.read_bytes())))

    assert (record["key"], record["tags"]) == ("key:1", ["t"])
    assert record["expires_in"] == pytest.approx(1000, abs=5)
    assert record["expires_at"] == pytest.approx(made.finished + 1000, abs=5)


# -- what a restore may replace


async def test_a_restore_never_replaces_what_is_newer_unless_told(make):
    async with make() as cache:
        await cache.set_many({"a": "then", "b": "then", "c": "then"})
        await cache.backups.create()
        await cache.set("a", "now")
        await cache.delete("b")

        report = await cache.backups.restore()
        assert (report.restored, report.kept) == (1, 2)
        assert await contents(cache) == {"a": "now", "b": "then", "c": "then"}

        assert (await cache.backups.restore(overwrite="always")).restored == 3
        assert await cache.get("a") == "then"


async def test_never_leaves_everything_that_is_there(make):
    async with make() as cache:
        await cache.set_many({"a": "then", "b": "then"})
        await cache.backups.create()
    async with make() as cache:
        await cache.set("a", "now")

        assert (await cache.backups.restore(overwrite="never")).kept == 1
        assert await contents(cache) == {"a": "now", "b": "then"}


async def test_what_is_written_after_a_restore_is_newer_than_what_was_restored(make):
    async with make() as cache:
        for number in range(50):
            await cache.set("a", number)
        await cache.backups.create()
    async with make() as cache:
        await cache.backups.restore()
        await cache.set("a", "own")

        assert (await cache.backups.restore()).kept == 1
        assert await cache.get("a") == "own"


@pytest.mark.parametrize("kind", [Memory, Disk])
async def test_what_is_written_after_a_loss_is_newer_than_the_backup(make, tmp_path, kind):
    def backend(life: str) -> Memory | Disk:
        return Disk(path=tmp_path / f"{life}.db") if kind is Disk else Memory()

    async with make(backend=backend("first")) as cache:
        await cache.set_many({"a": "then", "b": "then"})
        await cache.backups.create()
    async with make(backend=backend("second")) as cache:
        await cache.set("a", "now")  # the first write of this life

        assert (await cache.backups.restore()).kept == 1
        assert await contents(cache) == {"a": "now", "b": "then"}


async def test_only_what_was_asked_for_is_restored(make):
    async with make() as cache:
        await cache.set_many({"user:1": 1, "user:2": 2, "page:1": 3})
        await cache.region("other").set("user:1", 4)
        made = await cache.backups.create()
    async with make() as cache:
        report = await cache.backups.restore(made.id, regions=["default"], pattern="user:*")

        assert report.restored == 2
        assert await contents(cache) == {"user:1": 1, "user:2": 2}
        assert await contents(cache, "other") == {}


async def test_a_dry_run_says_what_would_be_done_and_does_nothing(make):
    async with make() as cache:
        await cache.set_many({"a": 1, "b": 2})
        await cache.backups.create()
        await cache.set("a", 3)
        await cache.delete("b")

        report = await cache.backups.restore(dry_run=True)

        assert (report.restored, report.kept, report.dry_run) == (1, 1, True)
        assert await contents(cache) == {"a": 3}


async def test_regions_that_are_not_there_are_named_before_anything_is_restored(make):
    async with make(regions=["other", "third"]) as cache:
        await cache.set("a", 1)
        await cache.region("third").set("a", 1)
        await cache.backups.create()
    async with make() as cache:
        with pytest.raises(UnknownRegion, match="third"):
            await cache.backups.restore()
        with pytest.raises(UnknownRegion, match="nothing"):
            await cache.backups.restore(regions=["nothing"])
        assert await contents(cache) == {}

        await cache.backups.restore(regions=["default"])
        assert await contents(cache) == {"a": 1}


async def test_listeners_hear_of_what_was_restored(make):
    async with make() as cache:
        await cache.set("a", 1)
        await cache.backups.create()
    async with make() as cache, cache.subscribe(EntrySet) as events:
        await cache.backups.restore()
        assert (await anext(events)).key == "a"


# -- time


async def test_an_entry_ends_when_it_would_have_ended_or_after_what_remained(make):
    clock = ManualClock()
    async with make(clock=clock) as cache:
        await cache.set("short", 1, ttl=10)
        await cache.set("long", 1, ttl=100)
        await cache.set("ever", 1)
        await cache.backups.create()
    clock.advance(40)

    async with make(clock=clock) as cache:
        report = await cache.backups.restore()
        assert (report.restored, report.expired) == (2, 1)
        assert (await cache.lookup("long")).expires_in == 60
        assert (await cache.lookup("ever")).expires_in is None

    async with make(clock=clock) as cache:
        await cache.backups.restore(ttl="remaining")
        assert (await cache.lookup("short")).expires_in == 10
        assert (await cache.lookup("long")).expires_in == 100


async def test_a_clock_that_was_set_back_gives_no_entry_more_time(make):
    clock = WallClock()
    async with make(clock=clock) as cache:
        await cache.set("a", 1, ttl=100)
        await cache.backups.create()
    clock.ahead = -10_000

    async with make(clock=clock) as cache:
        await cache.backups.restore()
        assert (await cache.lookup("a")).expires_in <= 100


async def test_a_clock_that_was_set_back_changes_neither_order_nor_chain(make):
    clock = WallClock()
    async with make(clock=clock, full_every=3) as cache:
        await cache.set("a", 1)
        first = await cache.backups.create()
        clock.ahead = -10 * 86_400
        await cache.set("a", 2)
        second = await cache.backups.create()

        assert second.chain == (first.id, second.id)
        assert [each.id for each in await cache.backups.list()] == [first.id, second.id]
        assert (await cache.backups.prune()).backups == ()
    async with make(clock=clock) as cache:
        await cache.backups.restore()
        assert await cache.get("a") == 2


# -- chains


async def test_an_incremental_backup_holds_what_changed_and_knows_what_is_gone(make):
    async with make(full_every=10) as cache:
        await cache.set_many({f"k{at}": at for at in range(100)}, ttl=1000)
        await cache.backups.create()
        await cache.set("k1", "new")
        await cache.touch("k2", 5000)
        await cache.delete("k3")
        await cache.set("more", 1)

        made = await cache.backups.create()

        assert (made.kind, made.entries, made.stored, made.gone) == ("incremental", 100, 3, 1)
    async with make() as cache:
        report = await cache.backups.restore(overwrite="always")
        assert (report.restored, report.kept) == (100, 0)  # each from where its last state is
        assert await cache.get("k3") is None
        assert await cache.get("k1") == "new"
        assert (await cache.lookup("k2")).expires_in > 4000


async def test_equal_versions_of_different_values_are_backed_up_right(make):
    """As after a clock that was set back, where versions are counted."""
    async with make(full_every=10, clock=ManualClock()) as cache:
        await cache.set("a", "first life")
        await cache.backups.create()
    async with make(full_every=10, clock=ManualClock()) as cache:
        await cache.set("a", "second life")
        assert (await cache.backups.create()).stored == 1
    async with make() as cache:
        await cache.backups.restore()
        assert await cache.get("a") == "second life"


async def test_full_every_and_the_kind_that_was_asked_for(make):
    async with make(full_every=3) as cache:
        kinds = [(await cache.backups.create()).kind for _ in range(4)]
        assert kinds == ["full", "incremental", "incremental", "full"]
        assert (await cache.backups.create(kind="full")).kind == "full"
    async with make() as cache:
        assert (await cache.backups.create()).kind == "full"
        assert (await cache.backups.create(kind="incremental")).kind == "incremental"


KEYS = st.sampled_from("abcdef")
STEPS = st.lists(
    st.lists(
        st.one_of(
            st.tuples(st.just("set"), KEYS, st.integers(0, 3)),
            st.tuples(st.just("delete"), KEYS, st.none()),
        ),
        max_size=6,
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=times(25))
@given(STEPS)
def test_any_point_of_any_chain_is_restored_exactly(tmp_path_factory, steps):
    place = tmp_path_factory.mktemp("chain")
    config = CacheConfig(backup=backup_config(Directory(path=place), full_every=100))

    async def run() -> None:
        points = []
        async with Cache(config) as cache:
            for changes in steps:
                for operation, key, value in changes:
                    if operation == "set":
                        await cache.set(key, value)
                    else:
                        await cache.delete(key)
                made = await cache.backups.create()
                points.append((made.id, await contents(cache)))
        for name, expected in points:
            async with Cache(config) as cache:
                seen = []
                async with cache.subscribe(EntrySet) as events:
                    await cache.backups.restore(name)
                    assert await contents(cache) == expected
                    await cache.set("end", 1)
                    async for event in events:
                        assert isinstance(event, EntrySet)
                        if event.key == "end":
                            break
                        seen.append(event.key)
                assert sorted(seen) == sorted(expected)  # nothing else appeared for a moment

    asyncio.run(run())


async def test_a_key_that_was_read_twice_is_restored_once_in_its_later_state(make, monkeypatch):
    """As where keys move between servers while a backup is made."""
    async with make() as cache:
        backend: Any = cache._runtime.backend
        await cache.set("a", "old")
        [[old]] = [batch async for batch in backend.export("default")]
        await cache.set("a", "new")
        [[new]] = [batch async for batch in backend.export("default")]

        async def twice(region, **options):
            if region == "default":
                yield [new, old, new]

        with monkeypatch.context() as patch:
            patch.setattr(type(backend), "export", lambda self, *args, **options: twice(*args))
            made = await cache.backups.create()
        await cache.delete("a")
        report = await cache.backups.restore(made.id, overwrite="always")

        assert (report.restored, report.kept) == (1, 0)
        assert await cache.get("a") == "new"


# -- many at once


async def test_two_backups_at_once_are_two_good_backups(make):
    async with make(full_every=5) as cache:
        await cache.set_many({f"k{at}": at for at in range(2000)})
        one, two = await asyncio.gather(cache.backups.create(), cache.backups.create())

        assert one.id != two.id
        assert (await cache.backups.verify(one.id)).good
        assert (await cache.backups.verify(two.id)).good
        assert (await cache.backups.create()).kind == "incremental"
        assert (await cache.backups.verify()).good


async def test_writes_during_a_backup_tear_no_entry(make):
    async with make() as cache:
        await cache.set_many({f"k{at}": [0, 0] for at in range(3000)})
        done = False

        async def write() -> None:
            number = 0
            while not done:
                number += 1
                await cache.set(f"k{random.randrange(3000)}", [number, -number])
                if number % 50 == 0:
                    await asyncio.sleep(0.001)  # lets the threads of the backup run

        writing = asyncio.create_task(write())
        await cache.backups.create()
        done = True
        await writing
    async with make() as cache:
        assert (await cache.backups.restore()).restored == 3000
        assert all(one == -two for one, two in (await contents(cache)).values())


# -- checking and removing


async def test_a_good_backup_is_verified(make):
    async with make(full_every=3) as cache:
        await cache.set_many({f"k{at}": at for at in range(500)})
        await cache.backups.create()
        await cache.set("more", 1)
        made = await cache.backups.create()

        report = await cache.backups.verify()

        assert (report.good, report.backup, len(report.chain)) == (True, made.id, 2)
        assert report.records == 500 + 1 + 500 + 501  # entries and indexes
        assert report.sampled == 100


async def test_values_of_classes_that_only_programs_know_are_verified_too(make, tmp_path):
    disk = Disk(path=tmp_path / "cache.db")
    async with make(backend=disk) as cache:
        await cache.set("u", User("Ann"))
        await cache.backups.create()
        report = await cache.backups.verify()
        assert (report.problems, report.sampled) == ([], 1)

        await cache.delete("u")
        await cache.backups.restore()
        assert await cache.get("u", type=User) == User("Ann")


async def test_old_backups_are_removed_and_the_last_good_one_never(make):
    clock = ManualClock()
    async with make(clock=clock) as cache:
        await cache.set("a", 1)
        first = await cache.backups.create()
        clock.advance(5 * 86_400)
        second = await cache.backups.create()
        clock.advance(4 * 86_400)

        assert (await cache.backups.prune(dry_run=True)).backups == (first.id,)
        assert len(await cache.backups.list()) == 2
        assert (await cache.backups.prune()).backups == (first.id,)
        clock.advance(365 * 86_400)
        assert (await cache.backups.prune()).backups == ()

        assert [each.id for each in await cache.backups.list()] == [second.id]
        assert (await cache.backups.verify()).good


async def test_configure_backup_says_where_from_now_on(make, tmp_path):
    async with make() as cache:
        await cache.set("a", 1)
        await cache.backups.create()
        await cache.configure_backup(backup_config(Directory(path=tmp_path / "elsewhere")))

        assert await cache.backups.list() == []
        await cache.backups.create()
        assert (await cache.backups.verify()).good
        assert list((tmp_path / "elsewhere").rglob("manifest.json"))


async def test_without_a_place_there_are_no_backups():
    async with Cache() as cache:
        with pytest.raises(ConfigError, match="storage"):
            _ = cache.backups


async def test_without_a_backup_nothing_is_restored(make):
    async with make() as cache:
        with pytest.raises(UnknownBackup, match="no complete backup"):
            await cache.backups.restore()
        await cache.backups.create()
        with pytest.raises(UnknownBackup, match="there are 0"):
            await cache.backups.restore("yesterday")
        with pytest.raises(BackupError):
            await cache.backups.verify("../../etc")


# -- keys


async def test_without_its_key_nothing_of_a_backup_is_restored(make):
    async with make(encryption=BackupEncryption(keys=[KEY])) as cache:
        await cache.set("a", 1)
        made = await cache.backups.create()
    for encryption in (None, BackupEncryption(keys=[OTHER_KEY])):
        async with make(encryption=encryption) as cache:
            with pytest.raises(WrongKey, match="add the key"):
                await cache.backups.restore()
            with pytest.raises(WrongKey):
                await cache.backups.verify(made.id)
            [listed] = await cache.backups.list()
            assert listed.kind == "unreadable"
            assert await contents(cache) == {}


async def test_keys_are_changed_by_putting_a_new_one_in_front(make):
    old, both = BackupEncryption(keys=[KEY]), BackupEncryption(keys=[OTHER_KEY, KEY])
    async with make(encryption=old, full_every=5) as cache:
        await cache.set("a", 1)
        before = await cache.backups.create()
    async with make(encryption=both, full_every=5) as cache:
        await cache.set("b", 2)
        after = await cache.backups.create()
        assert after.kind == "full"  # what is encrypted anew does not lean on the old key
        assert (await cache.backups.verify(before.id)).good
        assert (await cache.backups.verify(after.id)).good
        await cache.backups.restore(before.id)


# -- a warm start


async def test_a_region_starts_warm_from_a_backup_and_keeps_what_it_has(make):
    async with make() as cache:
        await cache.set_many({"a": 1, "b": 2})
        await cache.region("other").set("c", 3)
        made = await cache.backups.create()
    for name in ("latest", made.id):
        async with make() as cache:
            await cache.set("a", "mine")
            told: list[Any] = []

            warmed = await cache.warm(from_backup=name, progress=told.append)

            assert (warmed.found, warmed.missing, warmed.failed) == (2, 0, 0)
            assert [each.found for each in told] == [2]
            assert await contents(cache) == {"a": "mine", "b": 2}
            assert await contents(cache, "other") == {}


async def test_a_warm_start_from_a_backup_takes_no_keys(make):
    async with make() as cache:
        with pytest.raises(InvalidArgument, match="leave keys and loader out"):
            await cache.warm(["a"], from_backup="latest")
        with pytest.raises(UnknownBackup):
            await cache.warm(from_backup="latest")


# -- speed


async def test_a_throttle_holds_to_both_of_its_limits():
    now, slept = 0.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    throttle = Throttle(1000, 1_000_000, lambda: now, sleep)
    for _ in range(10):
        await throttle.spend(500, 100_000)  # entries are the tighter limit: half a second
    assert now == pytest.approx(5.0, abs=0.2)
    for _ in range(10):
        await throttle.spend(10, 1_000_000)  # bytes are
    assert now == pytest.approx(15.0, abs=0.3)


async def test_progress_is_told(make):
    async with make() as cache:
        await cache.set_many({f"k{at}": at for at in range(1200)})
        created: list[int] = []
        checked: list[int] = []
        restored: list[int] = []
        await cache.backups.create(progress=created.append)
        await cache.backups.verify(progress=checked.append)
        await cache.backups.restore(progress=restored.append)

        assert sum(created) == sum(checked) == sum(restored) == 1200
        assert len(created) > 1


def test_the_sync_face_does_the_same(make):
    with make().sync as cache:
        cache.set("a", 1)
        cache.backups.create()
        cache.delete("a")
        assert cache.backups.verify().good
        assert cache.backups.restore().restored == 1
        assert cache.get("a") == 1
        assert len(cache.backups.list()) == 1
        assert cache.backups.prune().backups == ()
