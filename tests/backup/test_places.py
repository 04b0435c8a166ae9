"""A directory and a bucket are the same to a backup."""

import asyncio
import os

import pytest

from clusterdb.cache import BackupCorrupt, BackupUnavailable
from clusterdb.cache.backup.directory import DirectoryStore
from clusterdb.cache.backup.objects import ObjectStore
from clusterdb.cache.backup.s3 import S3Store
from clusterdb.cache.errors import BackupError


@pytest.fixture(params=["directory", pytest.param("s3", marks=pytest.mark.server)])
def store(request, place) -> ObjectStore:
    if request.param == "directory":
        return DirectoryStore(place)
    return S3Store(request.getfixturevalue("bucket").config())


async def names(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted([each.name async for page in store.list(prefix) for each in page])


async def test_an_object_appears_when_it_is_closed(store):
    upload = await store.upload("a/b.avro")
    await upload.write(b"one")
    await upload.write(b"two")
    assert "a/b.avro" not in await names(store)

    await upload.close()
    await upload.abort()  # harmless

    assert await store.read("a/b.avro", 0, 100) == b"onetwo"
    assert await store.read("a/b.avro", 2, 2) == b"et"


async def test_an_upload_that_was_given_up_leaves_no_object(store):
    upload = await store.upload("a/b.avro")
    await upload.write(b"one")
    await upload.abort()
    await upload.abort()

    assert await names(store) == []


async def test_only_one_of_many_creates_a_name(store):
    made = await asyncio.gather(*[store.create("a/m.json", b"%d" % at) for at in range(5)])

    assert sorted(made) == [False, False, False, False, True]
    assert await store.read("a/m.json", 0, 10) == b"%d" % made.index(True)


async def test_creating_again_what_we_created_ourselves_is_no_conflict_in_a_bucket(bucket):
    store = S3Store(bucket.config())

    assert await store.create("a/m.json", b"mine")
    assert await store.create("a/m.json", b"mine")  # as a repeated request sees it
    assert not await store.create("a/m.json", b"other")


async def test_what_is_put_again_is_replaced(store):
    await store.put("x", b"one")
    await store.put("x", b"two!")

    assert await store.read("x", 0, 10) == b"two!"


async def test_lists_are_of_a_folder_and_tell_sizes(store):
    for name in ("a/1", "a/2", "ab/3", "c"):
        await store.put(name, b"12345")

    assert await names(store) == ["a/1", "a/2", "ab/3", "c"]
    assert await names(store, "a/") == ["a/1", "a/2"]
    assert await names(store, "nothing/") == []
    assert {each.size async for page in store.list("") for each in page} == {5}


async def test_what_was_removed_is_gone_and_removing_it_again_is_no_error(store):
    await store.put("a/1", b"x")
    await store.put("a/2", b"x")

    await store.delete(["a/1"])
    await store.delete(["a/1"])

    assert await names(store) == ["a/2"]


async def test_a_missing_object_is_said_to_be_missing(store):
    with pytest.raises(BackupCorrupt, match="is missing"):
        await store.read("a/none", 0, 10)


async def test_no_name_leads_out_of_the_place(store):
    for name in ("../x", "/x", "a/../../x"):
        with pytest.raises(BackupError, match="no name"):
            await store.put(name, b"x")


# -- a directory


async def test_a_directory_is_for_its_owner_only(place):
    store = DirectoryStore(place)
    await store.put("a/1", b"x")

    assert (place / "a").stat().st_mode & 0o777 == 0o700
    assert (place / "a" / "1").stat().st_mode & 0o777 == 0o600


async def test_a_directory_that_can_not_be_is_said(tmp_path):
    (tmp_path / "file").write_text("x")

    with pytest.raises(BackupUnavailable, match="Not a directory"):
        await DirectoryStore(tmp_path / "file" / "below").put("a", b"x")


async def test_a_directory_does_not_follow_a_link_that_waits_there(place, tmp_path):
    store = DirectoryStore(place)
    await store.put("a/1", b"x")
    (place / "a" / "2").symlink_to(tmp_path / "target")

    await store.put("a/2", b"x")

    assert not (tmp_path / "target").exists()
    assert not (place / "a" / "2").is_symlink()


# -- a bucket


async def test_large_files_go_up_in_parts(bucket):
    store = S3Store(bucket.config(part_size="5MiB"))
    content = os.urandom(11 * 1024 * 1024)
    bucket.server.requests.clear()

    upload = await store.upload("a/large")
    for at in range(0, len(content), 1 << 20):
        await upload.write(content[at : at + (1 << 20)])
    await upload.close()

    assert bucket.get("daily/a/large") == content
    puts = [path for method, path in bucket.server.requests if method == "PUT"]
    assert len(puts) == 3


async def test_credentials_may_come_from_the_environment(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-env")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asked = []
    bucket.server.fault = lambda environ, *_: asked.append(environ["HTTP_AUTHORIZATION"])

    await S3Store(bucket.config(access_key=None, secret_key=None)).put("a", b"x")

    assert "Credential=from-env/" in asked[0]


async def test_a_bucket_that_is_not_there_is_said(bucket):
    bucket.name = "absent"

    with pytest.raises(BackupUnavailable, match="s3://absent/daily"):
        await S3Store(bucket.config()).put("a", b"x")
