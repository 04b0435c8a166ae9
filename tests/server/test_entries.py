"""Entries over HTTP: what is stored comes back, and a write happens as its conditions allow."""

import base64
from typing import Any

import httpx
import pytest

from clusterdb.cache import Cache, CacheCoherence, CacheConfig, SQLite, WriteThrough

ENTRY = "/v1/regions/session/entry"
KEYS = ["user:1", "a/b/../c", "..", "%2e%2e", "a b+c&d=e#f?", "<script>", "naïve ☃", "\x00\n", "*"]


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_can_be_stored_read_and_deleted(client: httpx.AsyncClient, cache: Cache, key):
    put = await client.put(ENTRY, params={"key": key}, json={"value": {"x": [1, None]}})
    assert put.status_code == 200
    assert put.json() == {"region": "session", "key": key, "version": put.json()["version"]}
    assert await cache.region("session").get(key) == {"x": [1, None]}

    got = await client.get(ENTRY, params={"key": key})
    assert got.headers["etag"] == put.headers["etag"] == f'"{got.json()["version"]}"'
    assert (got.json()["key"], got.json()["value"]) == (key, {"x": [1, None]})

    assert (await client.delete(ENTRY, params={"key": key})).status_code == 204
    assert (await client.get(ENTRY, params={"key": key})).status_code == 404


@pytest.mark.parametrize(
    ("kind", "sent", "stored"),
    [
        ("text", "5", "5"),
        ("json", 5, 5),
        ("json", None, None),
        ("bytes", base64.b64encode(b"\x00\xff").decode(), b"\x00\xff"),
    ],
)
async def test_a_value_keeps_its_type(client: httpx.AsyncClient, cache: Cache, kind, sent, stored):
    await client.put(ENTRY, params={"key": "k"}, json={"value": sent, "type": kind})
    entry = (await client.get(ENTRY, params={"key": "k"})).json()

    assert await cache.region("session").get("k", "none") == stored
    assert entry["value"] == sent
    assert entry["type"] == ("text" if isinstance(stored, str) else kind)


async def test_expiry_and_tags(client: httpx.AsyncClient, cache: Cache):
    body = {"value": 1, "ttl": "90s", "tags": ["a", "b"]}
    await client.put(ENTRY, params={"key": "k"}, json=body)
    entry = (await client.get(ENTRY, params={"key": "k"})).json()
    assert 80 < entry["expires_in"] <= 90
    assert entry["tags"] == ["a", "b"]

    await client.put(ENTRY, params={"key": "k"}, json={"value": 1, "ttl": None})
    assert (await client.get(ENTRY, params={"key": "k"})).json()["expires_in"] is None
    await client.put(ENTRY, params={"key": "k"}, json={"value": 1})
    assert 3500 < (await client.get(ENTRY, params={"key": "k"})).json()["expires_in"] <= 3600

    touched = await client.patch(ENTRY, params={"key": "k"}, json={"ttl": 5})
    assert touched.status_code == 204
    assert (await client.get(ENTRY, params={"key": "k"})).json()["expires_in"] <= 5
    absent = await client.patch(ENTRY, params={"key": "none"}, json={"ttl": 5})
    assert absent.status_code == 404


async def test_a_client_that_has_the_version_gets_no_value(client: httpx.AsyncClient):
    tag = (await client.put(ENTRY, params={"key": "k"}, json={"value": 1})).headers["etag"]

    for known in (tag, f'"7777", W/{tag}', "*"):
        same = await client.get(ENTRY, params={"key": "k"}, headers={"If-None-Match": known})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag)
    other = await client.get(ENTRY, params={"key": "k"}, headers={"If-None-Match": '"7777"'})
    assert other.status_code == 200


async def put(client: httpx.AsyncClient, value: Any, **headers: str) -> int:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    answer = await client.put(ENTRY, params={"key": "k"}, json={"value": value}, headers=named)
    return answer.status_code


async def test_writes_depend_on_versions(client: httpx.AsyncClient, cache: Cache):
    session = cache.region("session")
    assert await put(client, 1, If_Match="*") == 412
    assert await put(client, 1, If_None_Match="*") == 200
    assert await put(client, 2, If_None_Match="*") == 412
    old = (await client.get(ENTRY, params={"key": "k"})).headers["etag"]
    assert await put(client, 3, If_Match=old) == 200
    assert await put(client, 4, If_Match=old) == 412
    assert await session.get("k") == 3

    stale = await client.delete(ENTRY, params={"key": "k"}, headers={"If-Match": old})
    assert stale.status_code == 412
    assert await session.get("k") == 3
    new = (await client.get(ENTRY, params={"key": "k"})).headers["etag"]
    gone = await client.delete(ENTRY, params={"key": "k"}, headers={"If-Match": new})
    assert gone.status_code == 204
    assert await session.get("k") is None


@pytest.mark.parametrize("tag", ["5", '"x"', "abc", '"1", "2"', '"-1"', '"0"'])
async def test_a_condition_that_cannot_be_read_changes_nothing(client, cache: Cache, tag: str):
    await cache.region("session").set("k", 1)
    assert await put(client, 2, If_Match=tag) == 400
    assert await cache.region("session").get("k") == 1


async def test_peeking_counts_no_read(client: httpx.AsyncClient, cache: Cache):
    await cache.region("session").set("k", 1)
    await client.get(ENTRY, params={"key": "k", "peek": "true"})
    assert (await cache.get_statistics()).regions["session"].hits == 0
    await client.get(ENTRY, params={"key": "k"})
    assert (await cache.get_statistics()).regions["session"].hits == 1


async def test_a_long_value_can_be_cut(client: httpx.AsyncClient, cache: Cache):
    await cache.region("session").set("k", "é" * 1000)
    entry = (await client.get(ENTRY, params={"key": "k", "limit": "11"})).json()
    assert (entry["truncated"], entry["size"], entry["value"][:5]) == (True, 2000, "é" * 5)


class Oddity:
    def __repr__(self) -> str:
        raise RuntimeError("no")


async def test_a_value_that_json_cannot_say_is_named(client: httpx.AsyncClient, cache: Cache):
    await cache.region("session").set("k", {"a": Oddity(), "b": float("nan"), (1, 2): 3})
    assert (await client.get(ENTRY, params={"key": "k"})).status_code == 200
    await cache.region("session").set("k", Oddity())
    assert "Oddity" in (await client.get(ENTRY, params={"key": "k"})).json()["value"]


async def test_writes_reach_the_storage(client_of, tmp_path):
    mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    config = CacheConfig(coherence=CacheCoherence(mode=mode))
    url = "/v1/regions/default/entry"
    async with Cache(config) as cache:
        client = client_of(cache)
        assert (await client.put(url, params={"key": "k"}, json={"value": 1})).status_code == 200
        assert (await client.put(url, params={"key": "x"}, json={"value": 2})).status_code == 200
        assert (await client.delete(url, params={"key": "x"})).status_code == 204
        [storage] = (await client.get("/v1/statistics")).json()["storages"].values()
        assert storage["rows_written"] == 3
    async with Cache(config) as again:
        assert await again.get_or_load("k", lambda: 5) == 1


async def test_counters(client: httpx.AsyncClient, cache: Cache):
    url = "/v1/regions/default/increment"
    assert (await client.post(url, params={"key": "n"}, json={"initial": 5})).json()["value"] == 6
    assert (await client.post(url, params={"key": "n"}, json={"delta": -2})).json()["value"] == 4
    await cache.set("text", "x")
    wrong = await client.post(url, params={"key": "text"}, json={})
    assert (wrong.status_code, wrong.json()["type"].rpartition(":")[2]) == (409, "type-mismatch")


async def test_keys_by_glob(client: httpx.AsyncClient, cache: Cache):
    await cache.set_many({f"user:{n}": n for n in range(5)} | {"other": 1})
    url = "/v1/regions/default/keys"
    some = (await client.get(url, params={"pattern": "user:*", "limit": "3"})).json()
    assert (len(some["keys"]), some["complete"]) == (3, False)
    every = (await client.get(url, params={"pattern": "user:*", "limit": "5"})).json()
    assert (sorted(every["keys"]), every["complete"]) == ([f"user:{n}" for n in range(5)], True)
    assert (await client.get(url, params={"pattern": "[a"})).status_code == 400


async def test_invalidating(client: httpx.AsyncClient, cache: Cache):
    session = cache.region("session")
    await session.set_many({"a": 1, "b1": 1, "b2": 1})
    await session.set("c", 1, tags=("t",))
    body = {"keys": ["a", "none"], "matching": ["b*"]}
    done = await client.post("/v1/regions/session/invalidate", json=body)
    assert done.json() == {"invalidated": 3}
    assert (await client.post("/v1/invalidate", json={"tags": ["t"]})).status_code == 200
    assert await session.get_many(["a", "b1", "b2", "c"]) == {}


async def test_clearing_one_region_leaves_the_others(client: httpx.AsyncClient, cache: Cache):
    await cache.set("a", 1)
    await cache.region("session").set("b", 1)
    assert (await client.post("/v1/regions/default/clear", json={})).json() == {"removed": 1}
    assert await cache.region("session").get("b") == 1
    assert (await client.post("/v1/clear", json={})).json() == {"removed": 1}
