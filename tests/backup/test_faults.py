"""Places that fail, throttle, stall, cut or change what they hold: a backup is complete or absent,
and what is damaged is not restored.
"""

import asyncio
import os
import resource
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.backup.conftest import KEY
from tests.backup.s3 import corrupt, error, stall, truncate
from tests.backup.test_backups import contents

from clusterdb.cache import (
    BackupCorrupt,
    BackupEncryption,
    BackupUnavailable,
    NotSupported,
    RestoreStopped,
)


def a_put(environ):
    return environ["REQUEST_METHOD"] in ("PUT", "POST")


def a_download(environ):
    return environ["REQUEST_METHOD"] == "GET" and "entries-" in environ["PATH_INFO"]


# -- a bucket


@pytest.mark.parametrize(
    ("status", "code"),
    [("500 Internal Server Error", "InternalError"), ("503 Slow Down", "SlowDown")],
)
async def test_a_bucket_that_fails_or_throttles_for_a_while_is_asked_again(
    make, bucket, status, code
):
    async with make(bucket.config()) as cache:
        await cache.set("a", 1)
        bucket.server.fault = error(status, code, 2, a_put)
        await cache.backups.create()
        assert (await cache.backups.verify()).good


async def test_a_bucket_that_goes_on_failing_has_no_backup_and_the_one_before_is_good(make, bucket):
    async with make(bucket.config(retries=1)) as cache:
        await cache.set("a", 1)
        before = await cache.backups.create()
        bucket.server.fault = error("500 Internal Server Error", "InternalError", 1e9, a_put)

        with pytest.raises(BackupUnavailable, match="s3://"):
            await cache.backups.create()

        bucket.server.fault = None
        assert [each.id for each in await cache.backups.list()] == [before.id]
        assert (await cache.backups.verify()).good


@pytest.mark.parametrize("operation", ["create", "restore"])
async def test_a_bucket_that_stalls_ends_the_call_within_its_limit(make, bucket, operation):
    awake = threading.Event()
    async with make(bucket.config(timeout=0.2, retries=0)) as cache:
        await cache.set("a", 1)
        await cache.backups.create()
        bucket.server.fault = stall(a_put if operation == "create" else a_download, awake)
        try:
            with pytest.raises((BackupUnavailable, RestoreStopped)):
                async with asyncio.timeout(20):
                    await getattr(cache.backups, operation)()
        finally:
            awake.set()


@pytest.mark.parametrize("fault", [truncate, corrupt])
async def test_what_is_cut_or_changed_on_its_way_is_not_restored(make, bucket, fault):
    async with make(bucket.config(retries=0)) as cache:
        await cache.set("a", 1)
        await cache.backups.create()
    async with make(bucket.config(retries=0)) as cache:
        bucket.server.fault = fault(a_download)

        with pytest.raises(RestoreStopped) as caught:
            await cache.backups.restore()

        assert caught.value.report.restored == 0
        assert await contents(cache) == {}


# -- damage at rest


def entry_files(place: Path, backup: str) -> list[Path]:
    return sorted((place / "main" / backup).glob("entries-*.avro"))


def damage(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("encryption", [None, BackupEncryption(keys=[KEY])])
async def test_a_damaged_block_is_found_and_a_restore_says_how_far_it_got(make, place, encryption):
    settings = {"encryption": encryption, "parallel": 1, "file_size": 4096}
    async with make(**settings) as cache:
        await cache.set_many({f"k{at:05d}": os.urandom(100) for at in range(3000)})
        made = await cache.backups.create()
    files = entry_files(place, made.id)
    assert len(files) == 6
    damage(files[3], files[3].stat().st_size // 2)

    async with make(**settings) as cache:
        report = await cache.backups.verify()
        assert not report.good
        assert len(report.problems) == 1
        assert files[3].name in report.problems[0]

        with pytest.raises(RestoreStopped, match=files[3].name) as caught:
            await cache.backups.restore()

        assert caught.value.report.restored == 1500
        assert len(await contents(cache)) == 1500  # of the files before, and of none after
        assert isinstance(caught.value.__cause__, BackupCorrupt)


@pytest.mark.parametrize("spoil", ["lost", "cut", "manifest", "newer", "foreign"])
async def test_a_broken_backup_is_refused_before_anything_is_restored(make, place, spoil):
    async with make() as cache:
        await cache.set("a", 1)
        await cache.region("other").set("a", 1)
        made = await cache.backups.create()
    files, manifest = entry_files(place, made.id), place / "main" / made.id / "manifest.json"
    text = manifest.read_text()
    match spoil:
        case "lost":
            files[1].unlink()
        case "cut":
            files[1].write_bytes(files[1].read_bytes()[:-1])
        case "manifest":
            manifest.write_text(text.replace('"present": 1', '"present": 2'))
        case "newer":
            manifest.write_text(text.replace('"format": 1', '"format": 99'))
        case "foreign":
            manifest.write_text('{"Bucket": "of somebody else"}')

    async with make() as cache:
        with pytest.raises((BackupCorrupt, NotSupported)):
            await cache.backups.restore()
        if spoil == "newer":
            with pytest.raises(NotSupported, match="format 99"):
                await cache.backups.verify(made.id)
        else:
            assert not (await cache.backups.verify(made.id)).good
        assert await contents(cache) == {}
        [listed] = await cache.backups.list()
        assert listed.problem


async def test_a_parent_that_vanishes_while_a_backup_is_made_ends_it(make, place):
    async with make(full_every=5) as cache:
        await cache.set_many({f"k{at}": at for at in range(2000)})
        parent = await cache.backups.create()
        await cache.set("k0", "new")

        def remove(done: int) -> None:
            (place / "main" / parent.id / "manifest.json").unlink(missing_ok=True)

        with pytest.raises(BackupCorrupt, match="is missing"):
            await cache.backups.create(progress=remove)
        assert [each.kind for each in await cache.backups.list()] == ["unfinished"]


async def test_a_backup_that_is_complete_stays_though_the_place_fails_then(make, bucket):
    async with make(bucket.config(retries=0)) as cache:
        await cache.set("a", 1)
        bucket.server.fault = error(
            "500 Internal Server Error",
            "InternalError",
            1e9,
            lambda it: "delete" in it["QUERY_STRING"],
        )
        made = await cache.backups.create()

        bucket.server.fault = None
        assert [each.id for each in await cache.backups.list()] == [made.id]
        assert (await cache.backups.verify()).good


async def test_after_a_damaged_index_the_next_backup_is_a_full_one(make, place, caplog):
    async with make(full_every=5) as cache:
        await cache.set_many({f"k{at}": at for at in range(100)})
        made = await cache.backups.create()
        damage(place / "main" / made.id / "index.avro", 1000)

        more = await cache.backups.create()

        assert (more.kind, more.stored) == ("full", 100)
        assert "index.avro" in caplog.text
        assert (await cache.backups.verify()).good


async def test_a_file_of_another_backup_does_not_pass_for_this_one(make, place):
    names = []
    async with make() as cache:
        for value in ("old", "new"):
            await cache.set("a", value)
            names.append((await cache.backups.create()).id)
    [old], [new] = [entry_files(place, name) for name in names]
    assert old.stat().st_size == new.stat().st_size
    new.write_bytes(old.read_bytes())

    async with make() as cache:
        with pytest.raises(RestoreStopped, match="foreign"):
            await cache.backups.restore()
        assert await contents(cache) == {}


async def test_a_file_that_vanishes_while_a_backup_is_made_ends_it(make, place):
    async with make(file_size=1024, parallel=1) as cache:
        await cache.set_many({f"k{at}": os.urandom(100) for at in range(2000)})

        def remove(done: int) -> None:
            for file in (place / "main").glob("*/entries-00001.avro"):
                file.unlink()

        with pytest.raises(BackupCorrupt, match="was removed"):
            await cache.backups.create(progress=remove)
        assert await cache.backups.list() == []


# -- a disk that is full


@contextmanager
def largest_file(size: int):
    """No file of this process grows beyond that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_no_backup_and_no_rest(make, place):
    async with make() as cache:
        await cache.set_many({f"k{at}": os.urandom(10_000) for at in range(300)})
        with largest_file(1_000_000), pytest.raises(BackupUnavailable, match="space"):
            await cache.backups.create()

        assert await cache.backups.list() == []
        assert [path for path in place.rglob("*") if path.is_file()] == []
        await cache.backups.create()  # there is space again
        assert (await cache.backups.verify()).good


async def test_a_backup_that_was_cancelled_leaves_nothing(make, place):
    async with make() as cache:
        await cache.set_many({f"k{at}": at for at in range(5000)})
        begun = asyncio.Event()
        making = asyncio.create_task(cache.backups.create(progress=lambda _: begun.set()))
        await begun.wait()
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making

        assert await cache.backups.list() == []
        assert [path for path in place.rglob("*") if path.is_file()] == []
