"""What a type checker knows of both faces. Never run: test_faces.py gives it to mypy."""

from __future__ import annotations

from typing import Any, assert_type

from clusterdb.cache import Cache, CacheRegion, Region, SyncRegion


class User:
    name: str


async def load_user() -> User:
    return User()


def read_user() -> User:
    return User()


async def asynchronous(cache: Cache) -> None:
    users = cache.region("users", type=User)
    assert_type(users, Region[User])
    assert_type(await users.get("a"), User | None)
    assert_type(await users.get("a", 5), User | int)
    assert_type(await users.get("a", type=int), int | None)
    assert_type(await users.get("a", "", type=int), int | str)
    assert_type(await cache.get("a", type=User), User | None)
    assert_type(await users.get_or_load("a", load_user), User)
    assert_type(await users.get_or_load("a", read_user), User)
    assert_type(await users.set("a", User(), ttl="1h"), bool)
    assert_type(await users.set_many({"a": User()}), int)
    assert_type(await users.increment("n"), int)
    assert_type(await cache.create_region(CacheRegion("r"), type=int), Region[int])

    await users.set("a", 5)  # type: ignore[arg-type]
    await users.set_many({"a": 5})  # type: ignore[dict-item]
    await users.set("a", User(), ttl=[])  # type: ignore[arg-type]
    await users.set("a", User(), "1h")  # type: ignore[call-arg]
    await users.get(5)  # type: ignore[call-overload]


def synchronous(cache: Cache) -> None:
    users = cache.sync.region("users", type=User)
    assert_type(users, SyncRegion[User])
    assert_type(cache.region("users", type=User).sync, SyncRegion[User])
    assert_type(users.get("a"), User | None)
    assert_type(users.get("a", 5), User | int)
    assert_type(users.get("a", type=int), int | None)
    assert_type(users.get("a", "", type=int), int | str)
    assert_type(users.get_or_load("a", load_user), User)
    assert_type(users.get_or_load("a", read_user), User)
    assert_type(users.get_many(["a"]), dict[str, Any])
    assert_type(users.set("a", User(), ttl="1h"), bool)
    assert_type(users.set_many({"a": User()}), int)
    assert_type(users.increment("n"), int)
    assert_type(list(users.scan()), list[str])
    assert_type(cache.sync.create_region(CacheRegion("r"), type=int), SyncRegion[int])

    users.set("a", 5)  # type: ignore[arg-type]
    users.set_many({"a": 5})  # type: ignore[dict-item]
    users.set("a", User(), ttl=[])  # type: ignore[arg-type]
    users.get(5)  # type: ignore[call-overload]
    users.invalidate(5)  # type: ignore[arg-type]
    users.increment("a", "b")  # type: ignore[arg-type]
