"""The journal of what is written behind, on a disk that is full, fails, or lost its last bytes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.write_modes.disks import ROOM, grow, mounted
from tests.write_modes.processes import Worker, spawn
from tests.write_modes.test_trouble import Scene, _behind
from tests.write_modes.world import World, until

from clusterdb.cache import StorageUnavailable
from clusterdb.cache.codec import Encoded
from clusterdb.cache.config import Memory, SQLite
from clusterdb.cache.intents import Intent
from clusterdb.cache.storage.journal import Journals, read_journals

BIG = "x" * 10_000


@contextmanager
def limited(folder: Path) -> Iterator[None]:
    """Files of this process that can't grow any more, which anybody can have."""
    folder.mkdir()
    yield


def make_room(disk: str, folder: Path) -> None:
    if disk == "mounted":
        grow(folder)
    else:
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


@pytest.fixture
def journal(disk: str, tmp_path: Path) -> Iterator[Path]:
    """The directory of the journal, on a disk with little room."""
    folder = tmp_path / "journals"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    kinds: dict[str, Any] = {"mounted": mounted, "limited": limited}
    made: AbstractContextManager[None] = kinds[disk](folder)
    with made:
        if disk == "limited":
            resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
        try:
            yield folder
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def any_region(region: str) -> bool:
    """What is there is ours."""
    return bool(region)


DISKS = pytest.mark.parametrize("disk", ["mounted", "limited"])


async def fill(scene: Scene) -> set[str]:
    """Write until the journal takes no more; the keys that were accepted."""
    scene.storage.fail("write", error=StorageUnavailable("away"))
    accepted = set()
    for at in range(1000):
        try:
            await scene.cache.set(f"k{at}", BIG)
        except StorageUnavailable:
            break
        accepted.add(f"k{at}")
    assert 10 < len(accepted) < 1000
    return accepted


@DISKS
async def test_a_full_disk_accepts_nothing_until_there_is_room(
    journal: Path, tmp_path: Path, disk: str
):
    """Nothing is accepted after the error, all of before can be read, and with room it goes on."""
    scene = Scene(tmp_path, "behind", "bounded", {"journal": journal, "flush_interval": 0.02})
    async with scene.cache:
        accepted = await fill(scene)
        with pytest.raises(StorageUnavailable, match="can't be used"):
            await scene.cache.set("refused", BIG * 100)
        assert await scene.cache.get("refused") is None
        assert {intent.key for intent in read_journals(journal)[0]} == accepted
        make_room(disk, journal)
        await scene.cache.set("more", BIG)
        assert {intent.key for intent in read_journals(journal)[0]} == {*accepted, "more"}
        scene.storage.heal()
        await until(lambda: not _behind(scene.cache).pending, "the flush")
        found = await scene.rows.read("default", ["refused", "more", *accepted])
        assert [row is None for row in found] == [True, False, *[False] * len(accepted)]
    assert not list(journal.glob("*"))


@DISKS
async def test_a_journal_that_fills_its_disk_makes_room_by_its_flush(
    journal: Path, tmp_path: Path, disk: str
):
    """Forgetting takes room too. Nobody else frees any, and nobody has to."""
    del disk
    scene = Scene(tmp_path, "behind", "bounded", {"journal": journal, "flush_interval": 0.02})
    async with scene.cache:
        for _ in range(2):
            accepted = await fill(scene)
            scene.storage.heal()
            await until(lambda: not _behind(scene.cache).pending, "the flush")
            found = await scene.rows.read("default", list(accepted))
            assert None not in found
            assert read_journals(journal)[0] == []
        await scene.cache.set("next", BIG)


@DISKS
async def test_what_is_not_written_yet_stays_in_a_full_journal(journal: Path, disk: str):
    del disk
    journals = Journals(journal)
    await journals.open(any_region)
    accepted: list[Intent] = []
    with pytest.raises(StorageUnavailable, match="free space"):
        await append_all(journals, accepted)
    *others, last = accepted
    await journals.flushed(others)
    assert last in read_journals(journal)[0]
    await journals.flushed([last])
    assert read_journals(journal)[0] == []
    await journals.append([last])
    assert read_journals(journal)[0] == [last]
    await journals.flushed([last])
    await journals.aclose()
    assert not list(journal.glob("*"))


async def append_all(journals: Journals, accepted: list[Intent]) -> None:
    """Append until that fails."""
    for version in range(1, 1000):
        intent = Intent("default", f"k{version}", Encoded(BIG.encode(), 5), version)
        await journals.append([intent])
        accepted.append(intent)


@DISKS
async def test_a_full_disk_at_the_start_is_told(journal: Path, tmp_path: Path, disk: str):
    if disk == "limited":
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))
    else:
        with suppress_full(), (journal / "others").open("wb") as file:
            file.write(bytes(2 * ROOM))
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="free space"):
            await Journals(journal).open(any_region)
    assert not list(journal.glob("*.journal*"))
    make_room(disk, journal)
    journals = Journals(journal)
    assert await journals.open(any_region) == []
    await journals.aclose()


async def test_a_record_that_is_torn_is_not_there(tmp_path: Path):
    """A power cut may leave any part of the last record: those before it are whole."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    journals = Journals(whole)
    await journals.open(any_region)
    [path] = whole.glob("*.journal")
    log = Path(f"{path}-wal")
    ends = []
    for at in range(5):
        await journals.append([intent(f"k{at}", at + 1)])
        ends.append(log.stat().st_size)
    shutil.copytree(whole, torn)
    await journals.aclose()
    for file in torn.glob("*-shm"):
        file.unlink()
    [log] = torn.glob("*-wal")
    for size in range(ends[-1], ends[-2] - 3, -1):
        os.truncate(log, size)
        found = [each.key for each in read_journals(torn)[0]]
        assert found == [f"k{at}" for at, end in enumerate(ends) if end <= size]
    adopting = Journals(torn)
    assert [each.key for each in await adopting.open(any_region)] == ["k0", "k1", "k2"]
    await adopting.flushed([intent(f"k{at}", at + 1) for at in range(3)])
    await adopting.aclose()
    assert not list(torn.glob("*"))


def intent(key: str, version: int) -> Intent:
    return Intent("default", key, Encoded(b"value", 5), version)


@pytest.mark.parametrize("is_through", [True, False], ids=["was there", "is there"])
async def test_one_who_looks_for_files_of_the_dead_stops_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_through: bool
):
    """It comes between the making of a file and its lock, and takes it for one of them."""
    lock = fcntl.flock
    looking: list[int] = []

    def flock(file: int, how: int) -> None:
        if not looking:
            [new] = tmp_path.glob("*.journal")
            looking.append(os.open(new, os.O_RDWR))
            lock(looking[0], how)
            new.unlink()
            if is_through:
                os.close(looking[0])
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    journals, other = Journals(tmp_path), Journals(tmp_path)
    await journals.open(any_region)
    await journals.append([intent("k", 1)])
    assert await other.open(any_region) == []  # it is locked, and its maker lives
    assert [each.key for each in read_journals(tmp_path)[0]] == ["k"]
    await other.aclose()
    await journals.aclose()
    if not is_through:
        os.close(looking[0])


async def test_a_journal_that_was_being_emptied_is_empty(tmp_path: Path):
    """Killed between the two: the log is still there, and what it tells of is not."""
    journals = Journals(tmp_path / "journals")
    await journals.open(any_region)
    await journals.append([intent("k", 1)])
    left = tmp_path / "left"
    shutil.copytree(tmp_path / "journals", left)
    await journals.flushed([intent("k", 1)])
    await journals.aclose()
    [path] = left.glob("*.journal")
    os.truncate(path, 0)
    after = Journals(left)
    assert await after.open(any_region) == []
    await after.aclose()
    assert not list(left.glob("*"))


async def test_a_damaged_journal_is_named(tmp_path: Path):
    """What was accepted may be in it: nobody goes past it without a word."""
    (tmp_path / "7-dead.journal").write_bytes(b"no database, but as long as the head of one" * 5)
    journals = Journals(tmp_path)
    with pytest.raises(StorageUnavailable, match=r"7-dead.journal.*move it away"):
        await journals.open(any_region)
    await journals.aclose()
    (tmp_path / "7-dead.journal").unlink()
    assert not list(tmp_path.glob("*"))


def injects() -> bool:
    """Whether faults of system calls can be made here."""
    words = ["strace", "-f", "-o", "/dev/null", "-e", "inject=sync:error=EIO", "true"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.process
@pytest.mark.skipif(not injects(), reason="strace is not installed, or may not trace")
async def test_a_disk_that_can_not_sync_accepts_nothing(tmp_path: Path, workers: list[Worker]):
    """From the first error on no write is accepted; those of before are there."""
    sync = "inject=fsync,fdatasync:error=EIO:when=30+"
    strace = [
        "strace",
        "-D",
        "-f",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsync,fdatasync",
    ]
    sqlite = SQLite(path=tmp_path / "rows.db")
    async with World(Memory(), sqlite, str(tmp_path / "journals")) as world:
        await world.database()
        do = [["set", f"k{at}", at] for at in range(60)]
        options = {"flush_interval": 60}
        worker = spawn(
            workers,
            world,
            "write_behind",
            [*strace, "-e", sync],
            do=do,
            options=options,
            linger=True,
        )
        lines = []
        while (line := await asyncio.to_thread(worker.line)) != ["lingers"]:
            lines.append(line)
        worker.end()
        kinds = [line[0] for line in lines]
        first = kinds.index("failed")
        assert 10 < first < 50
        assert set(kinds[first:]) == {"failed"}
        assert all("StorageUnavailable" in line[-1] for line in lines[first:])
        async with world.make("behind"):
            pass
        for at in range(first):
            assert await world.value(f"k{at}") == at


@contextmanager
def suppress_full() -> Iterator[None]:
    with pytest.raises(OSError, match="No space left"):
        yield
