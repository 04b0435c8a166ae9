"""The face over a backend that is given bytes: the same types come back, on a hit and on a miss."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from tests.encoding import BytesBackend
from tests.layers import innermost

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    GetOptions,
    InactiveSetting,
    InvalidArgument,
    LoadConfig,
    LoadContext,
    Miss,
    Region,
    SerializationConfig,
    Stale,
    TypeMismatch,
    TypeRequired,
)
from clusterdb.cache.claims import Claim
from clusterdb.cache.codec import CodecId, Encoded
from clusterdb.cache.errors import EncodeError, NotSupported, Undecodable
from clusterdb.cache.loading import returned_type
from clusterdb.cache.protocols import Put
from clusterdb.cache.testing import FaultyBackend, ManualClock, disabled


@dataclass
class User:
    name: str
    born: datetime


@dataclass
class Account:
    number: int


class OldUser(msgspec.Struct):
    name: str


class NewUser(msgspec.Struct):
    name: str
    age: int


class Row(TypedDict):
    name: str
    ids: list[int]


class Point(NamedTuple):
    x: int
    y: int


ADA = User("Ada", datetime(1815, 12, 10, tzinfo=UTC))
PLAIN = [
    None,
    True,
    5,
    2**80,
    1.5,
    "text",
    b"bytes",
    [1, "a", None],
    {"a": {"b": [1]}, 2: 3},
    (1, (2, 3)),
    {1, 2},
    frozenset({"a"}),
    ADA.born,
    UUID(int=7),
]
JUNK = Encoded(b"\xc1", CodecId.MESSAGEPACK)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["far", "near"])
async def cache(clock: ManualClock, request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    backend = BytesBackend(clock, near=request.param == "near")
    async with Cache(backend=backend, clock=clock) as cache:
        yield cache
    assert backend.owed == {}, "a record was neither kept near nor given back"


def backend_of(cache: Cache) -> BytesBackend:
    backend = innermost(cache)
    assert isinstance(backend, BytesBackend)
    return backend


async def smuggle(cache: Cache, key: str, value: Encoded, region: str = "default") -> None:
    await backend_of(cache).write(region, [Put(key, value)])


async def load_ada() -> User:
    return ADA


def never() -> Any:
    raise AssertionError("this is a hit")


class TestTypes:
    @pytest.mark.parametrize("value", PLAIN, ids=repr)
    async def test_builtins_need_no_type(self, cache: Cache, value: object):
        assert await cache.set("k", value)

        for _ in range(2):
            found = await cache.get("k", "absent")
            assert found == value
            assert type(found) is type(value)

    async def test_none_is_a_value_on_every_way(self, cache: Cache):
        nothing: Any = lambda: None  # noqa: E731 - a loader as people write it
        assert await cache.get_or_load("k", nothing) is None
        assert await cache.get_or_load("k", never) is None
        assert await cache.get("k", "absent") is None
        assert await cache.exists("k")

    @pytest.mark.parametrize("value", [ADA, Account(5), Point(1, 2), NewUser("Ada", 36)])
    async def test_a_type_asked_for_comes_back(self, cache: Cache, value: object):
        await cache.set("k", value)

        for _ in range(2):
            assert await cache.get("k", type=type(value)) == value
            assert type(await cache.get("k", type=type(value))) is type(value)

    async def test_each_read_says_which(self, cache: Cache):
        await cache.set_many({"a": ADA, "b": ADA})

        assert await cache.get_many(["a", "b", "c"], type=User) == {"a": ADA, "b": ADA}
        hit = await cache.lookup("a", type=User)
        assert not isinstance(hit, Miss)
        assert hit.value == ADA

    async def test_a_region_has_a_type(self, cache: Cache):
        await cache.create_region(CacheRegion("users"))
        users = cache.region("users", type=User)
        await users.set("ada", ADA)

        for _ in range(2):
            assert await users.get("ada") == ADA
            assert await users.get_many(["ada"]) == {"ada": ADA}
            assert await users.get_or_load("ada", never) == ADA

    async def test_typed_dicts_are_dictionaries_of_the_right_shape(self, cache: Cache):
        await cache.set("k", {"name": "Ada", "ids": [1]})
        assert await cache.get("k", type=Row) == {"name": "Ada", "ids": [1]}

        await cache.set("k", {"name": 5})
        with pytest.raises(TypeMismatch, match="'k'"):
            await cache.get("k", type=Row)

    async def test_without_any_type_the_remedy_is_named(self, cache: Cache):
        assert await cache.set("k", ADA)

        for read in (cache.get("k"), cache.lookup("k"), cache.get_many(["k"])):
            with pytest.raises(TypeRequired, match=r"'k'.*get\(key, type=User\)"):
                await read
        assert await cache.exists("k")
        assert await cache.get("k", type=User) == ADA

    async def test_another_type_is_a_mismatch_and_stays(self, cache: Cache):
        await cache.set("k", ADA)

        with pytest.raises(TypeMismatch, match="'k'"):
            await cache.get("k", type=Account)
        with pytest.raises(TypeMismatch):
            await cache.get_many(["k"], type=Account)
        assert await cache.get("k", type=User) == ADA
        assert (await cache.get_statistics()).total.undecodable == 0

    async def test_faces_of_one_region_with_different_types(self, cache: Cache):
        """What one face keeps near is not what the other asks for."""
        await cache.create_region(CacheRegion("r"))
        plain, users = cache.region("r"), cache.region("r", type=OldUser)
        await plain.set("k", {"name": "Ada"})

        for _ in range(2):
            assert await plain.get("k") == {"name": "Ada"}
            assert await users.get("k") == OldUser("Ada")
            assert await plain.get("k", type=dict[str, str]) == {"name": "Ada"}
            assert await plain.get("k", type=OldUser) == OldUser("Ada")
            await plain.set("k", {"name": "Ada"})

    async def test_a_type_asked_for_is_decoded_and_not_guessed(self, cache: Cache):
        await cache.set("k", 5)
        assert type(await cache.get("k")) is int

        assert type(await cache.get("k", type=float)) is float

    async def test_a_value_that_is_read_again_is_one_hit(self, cache: Cache):
        await cache.set("k", {"name": "Ada"})

        for kind in (OldUser, dict[str, str], OldUser):
            assert await cache.get("k", type=kind) is not None

        total = (await cache.get_statistics()).total
        assert (total.hits, total.misses) == (3, 0)

    async def test_each_caller_has_a_value_of_its_own_unless_it_is_kept_near(self, cache: Cache):
        await cache.create_region(CacheRegion("copied", isolation="copy"))
        region = cache.region("copied")
        await region.set("k", [1])

        found = await region.get_many(["k"])
        found["k"].append(2)

        assert await region.get("k") == [1]
        assert not backend_of(cache).near

    async def test_isolation_set_later_gives_nothing_shared(self, cache: Cache):
        await cache.set("k", [1])
        shared = await cache.get("k")
        await cache.configure_regions([CacheRegion("default", isolation="copy")])

        assert await cache.get("k") == [1]
        assert await cache.get("k") is not shared


class TestLoads:
    async def test_a_miss_and_a_hit_give_the_type_of_the_annotation(self, cache: Cache):
        missed = await cache.get_or_load("k", load_ada)
        hit = await cache.get_or_load("k", load_ada)

        assert missed == hit == ADA
        assert missed is not ADA
        assert type(missed) is type(hit) is User

    async def test_the_call_wins_over_the_region_and_that_over_the_annotation(self, cache: Cache):
        await cache.create_region(CacheRegion("r"))
        region: Region[Any] = cache.region("r", type=OldUser)

        def load() -> NewUser:
            return NewUser("Ada", 36)

        for _ in range(2):
            found: list[object] = [
                await region.get_or_load("by region", load),
                await cache.get_or_load("by call", load, type=OldUser),
                await cache.get_or_load("by loader", load),
            ]
            assert found == [OldUser("Ada"), OldUser("Ada"), NewUser("Ada", 36)]

    async def test_a_local_class_is_found(self, cache: Cache):
        @dataclass
        class Local:
            x: int

        async def load() -> Local:
            return Local(1)

        assert await cache.get_or_load("k", load) == await cache.get_or_load("k", load) == Local(1)

    async def test_no_type_at_all_is_refused_before_anything_is_stored(self, cache: Cache):
        def load_somebody():
            return ADA

        with pytest.raises(TypeRequired, match=r"load_somebody gave a User.*annotate.*type="):
            await cache.get_or_load("k", load_somebody)
        with pytest.raises(TypeRequired, match="load_somebody"):
            await cache.get_or_load("k", partial(load_somebody))

        assert not await cache.exists("k")
        assert await cache.get_or_load("k", load_somebody, type=User) == ADA

    async def test_a_hit_without_a_type_is_refused_too_and_kept(self, cache: Cache):
        await cache.set("k", ADA)

        with pytest.raises(TypeRequired, match="'k'"):
            await cache.get_or_load("k", lambda: ADA)

        assert await cache.get("k", type=User) == ADA

    async def test_what_can_not_be_encoded_is_not_stored(self, cache: Cache):
        with pytest.raises(EncodeError) as raised:
            await cache.get_or_load("k", lambda: {"a": [1, object()]})
        assert raised.value.kind == "object"
        with pytest.raises(EncodeError):
            await cache.set("k", object())

        assert not await cache.exists("k")

    async def test_many(self, cache: Cache):
        def load(keys: list[str]) -> dict[str, Account]:
            return {key: Account(int(key)) for key in keys}

        await cache.set("1", Account(10))

        for _ in range(2):
            found = await cache.get_or_load_many(["1", "2"], load)
            assert found == {"1": Account(10), "2": Account(2)}

    async def test_those_who_share_a_load_get_values_of_their_own(self, cache: Cache):
        gate = asyncio.Event()

        async def load() -> list[int]:
            await gate.wait()
            return [1]

        calls = [asyncio.create_task(cache.get_or_load("k", load)) for _ in range(2)]
        await asyncio.sleep(0)
        gate.set()
        one, other = await asyncio.gather(*calls)

        assert one == other == [1]
        assert one is not other

    async def test_the_stale_entry_of_a_loader_is_decoded(self, clock: ManualClock):
        region = CacheRegion("default", grace=60)
        seen: list[Stale[Any] | None] = []

        def load(context: LoadContext) -> User:
            seen.append(context.stale)
            return ADA

        backend = BytesBackend(clock)
        async with Cache(CacheConfig(regions=[region]), backend=backend, clock=clock) as cache:
            await cache.set("k", ADA, ttl=1)
            await smuggle(cache, "junk", JUNK)
            await cache.touch("junk", 1)
            clock.advance(2)
            assert await cache.get_or_load("k", load) == ADA
            assert await cache.get_or_load("junk", load) == ADA

            found = await cache.lookup("k", type=User, options=GetOptions(allow_stale=True))
            assert not isinstance(found, Miss)

        [stale, nothing] = seen
        assert stale is not None
        assert stale.value == ADA
        assert nothing is None

    @pytest.mark.parametrize("near", [False, True])
    async def test_past_the_soft_deadline_a_stale_value_must_fit(
        self, clock: ManualClock, near: bool
    ):
        loads = LoadConfig(soft_deadline=0.005)
        regions = [CacheRegion("default", grace=60, loads=loads)]
        backend = BytesBackend(clock, near=near)
        gate = asyncio.Event()

        async def load() -> NewUser:
            await gate.wait()
            return NewUser("new", 1)

        async with Cache(CacheConfig(regions=regions), backend=backend, clock=clock) as cache:
            await cache.set_many({"old": OldUser("Ada"), "new": NewUser("Ada", 36)}, ttl=1)
            assert await cache.get("old", type=OldUser) == OldUser("Ada")
            clock.advance(2)

            assert await cache.get_or_load("new", load) == NewUser("Ada", 36)
            loading = asyncio.create_task(cache.get_or_load("old", load))
            await asyncio.wait([loading], timeout=0.03)
            gate.set()
            assert await loading == NewUser("new", 1)
        assert backend.owed == {}

    async def test_an_unreachable_backend_changes_no_type(self, clock: ManualClock):
        backend = FaultyBackend(BytesBackend(clock))
        async with Cache(backend=backend, clock=clock) as cache:
            backend.fail("read", "claim")
            assert await cache.get_or_load("k", load_ada) == ADA
            with pytest.raises(TypeRequired):
                await cache.get_or_load("k", lambda: ADA)


class TestDrift:
    async def test_a_load_replaces_the_class_of_an_older_release(self, cache: Cache):
        await cache.set("k", OldUser("Ada"))

        async def load() -> NewUser:
            return NewUser("Ada", 36)

        for _ in range(2):
            assert await cache.get_or_load("k", load) == NewUser("Ada", 36)

        total = (await cache.get_statistics()).total
        assert (total.undecodable, total.loads) == (1, 1)
        assert (total.hits, total.misses) == (1, 1)

    async def test_a_get_says_so(self, cache: Cache):
        await cache.set("k", OldUser("Ada"))

        with pytest.raises(TypeMismatch, match=r"'k'.*NewUser"):
            await cache.get("k", type=NewUser)

    async def test_one_that_was_stored_while_a_load_waited(self, clock: ManualClock):
        """Both releases load one key at once: who comes second loads again."""
        backend = BytesBackend(clock)
        async with Cache(backend=backend, clock=clock) as cache:
            claims = await backend.claim("default", ["k", "l"], (), 30)

            async def load() -> NewUser:
                return NewUser("Ada", 36)

            waiting = asyncio.create_task(cache.get_or_load("k", load))
            untyped = asyncio.create_task(cache.get_or_load("l", lambda: ADA))
            await asyncio.sleep(0.001)
            codec = backend.regions["default"].codec
            assert codec is not None
            old = codec.encode(OldUser("Ada"))
            fills = [(claim, Put(claim.key, old)) for claim in claims if isinstance(claim, Claim)]
            assert len(await backend.fill("default", fills)) == 2

            assert await waiting == NewUser("Ada", 36)
            assert await cache.get("k", type=NewUser) == NewUser("Ada", 36)
            with pytest.raises(TypeRequired, match="'l'"):
                await untyped
            assert await cache.get("l", type=OldUser) == OldUser("Ada")
            assert (await cache.get_statistics()).total.undecodable == 1

    async def test_the_mistake_of_a_loader_is_told(self, cache: Cache):
        async def load() -> User:
            return Account(5)  # type: ignore[return-value]

        for _ in range(2):
            with pytest.raises(TypeMismatch, match="'k'"):
                await cache.get_or_load("k", load)


class TestUndecodable:
    async def test_every_read_misses(self, cache: Cache):
        async def absent(read: Awaitable[Any], nothing: object) -> None:
            await smuggle(cache, "k", JUNK)
            assert await read == nothing
            assert await backend_of(cache).peek("default", ["k"]) == [None]

        await absent(cache.get("k"), None)
        await absent(cache.get("k", "absent"), "absent")
        await absent(cache.get("k", type=User), None)
        await absent(cache.lookup("k"), Miss())
        await absent(cache.get_many(["k"]), {})
        await absent(cache.exists("k"), False)

    async def test_it_is_counted_as_the_miss_it_is(self, cache: Cache):
        await smuggle(cache, "k", JUNK)
        await cache.set("good", 1)

        assert await cache.get_many(["k", "good", "absent"]) == {"good": 1}

        total = (await cache.get_statistics()).total
        assert (total.hits, total.misses, total.undecodable) == (1, 2, 1)
        samples = {
            (each.name, each.labels.get("region")): each for each in await cache.get_metrics()
        }
        assert samples["cache_undecodable", "default"].value == 1

    async def test_a_stale_one_is_no_stale_hit(self, clock: ManualClock):
        config = CacheConfig(regions=[CacheRegion("default", grace=60)])
        async with Cache(config, backend=BytesBackend(clock), clock=clock) as cache:
            await backend_of(cache).write("default", [Put("k", JUNK, 1)])
            clock.advance(2)

            assert await cache.lookup("k", options=GetOptions(allow_stale=True)) == Miss()

            total = (await cache.get_statistics()).total
            assert (total.hits, total.stale_hits, total.misses) == (0, 0, 1)

    async def test_a_load_stores_again(self, cache: Cache):
        await smuggle(cache, "k", JUNK)

        assert await cache.get_or_load("k", load_ada) == ADA
        assert await cache.get_or_load("k", never, type=User) == ADA

    async def test_what_a_backend_could_not_open(self, cache: Cache):

        await cache.set("k", 1)
        backend = backend_of(cache)
        record = backend._tables["default"]._entries["k"]
        record.value = Undecodable("checksum")

        assert await cache.get("k", "absent") == "absent"
        assert not await cache.exists("k")

    async def test_a_newer_value_is_not_removed(self, clock: ManualClock):
        faulty = FaultyBackend(BytesBackend(clock))
        async with Cache(backend=faulty, clock=clock) as cache:
            await faulty.write("default", [Put("k", JUNK)])
            gate = faulty.hold("commit")
            reading = asyncio.create_task(cache.get("k"))
            await asyncio.wait([reading], timeout=0.01)
            assert faulty.calls["commit"] == 1
            await cache.set("k", "new")
            gate.set()

            assert await reading is None
            assert await cache.get("k") == "new"

    async def test_that_it_can_not_be_removed_is_no_error(self, clock: ManualClock):
        faulty = FaultyBackend(BytesBackend(clock))
        async with Cache(backend=faulty, clock=clock) as cache:
            await faulty.write("default", [Put("k", JUNK)])
            faulty.fail("commit")

            assert await cache.get("k", "absent") == "absent"

    async def test_the_log_has_one_line_a_minute_and_region(
        self, cache: Cache, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ):
        await cache.create_region(CacheRegion("other"))
        with caplog.at_level(logging.WARNING, "clusterdb.cache"):
            for region in ("default", "default", "default", "other"):
                await smuggle(cache, "k", JUNK, region)
                await cache.region(region).get("k")
            assert [each.name for each in caplog.records] == ["clusterdb.cache"] * 2

            for key in ("later", "last"):
                clock.advance(61)
                await smuggle(cache, key, JUNK)
                await cache.get(key)

        lines = [each.getMessage() for each in caplog.records]
        assert len(lines) == 4
        assert "'default'" in lines[0]
        assert "'k'" in lines[0]
        assert "0 more" in lines[0]
        assert "'other'" in lines[1]
        assert "'later'" in lines[2]
        assert "2 more" in lines[2]
        assert "0 more" in lines[3]

    async def test_all_are_given_back_when_one_is_refused(self, cache: Cache):
        await cache.set_many({"a": 1, "b": ADA, "c": 3, "d": ADA})
        await smuggle(cache, "e", JUNK)

        with pytest.raises(TypeRequired, match="'b'"):
            await cache.get_many(list("abcde"))

        assert backend_of(cache).owed == {}
        assert await cache.get_many(list("ace")) == {"a": 1, "c": 3}

    async def test_all_are_given_back_when_a_codec_ends_the_program(self, clock: ManualClock):
        class Ending:
            def encode(self, value: Any) -> bytes:
                return b""

            def decode(self, data: bytes, type: Any) -> Any:
                raise SystemExit

        backend = BytesBackend(clock, near=True)
        async with Cache(backend=backend, clock=clock, codec=Ending()) as cache:
            await cache.set_many({"a": 1, "b": 2})
            with pytest.raises(SystemExit):
                await cache.get_many(["a", "b"])
            assert backend.owed == {}


class TestDecorated:
    async def test_a_coroutine_function(self, cache: Cache):
        @cache.cached("user:{name}")
        async def user(name: str) -> User:
            return User(name, ADA.born)

        for _ in range(2):
            assert await user("Ada") == ADA
        assert await user.peek("Ada") == ADA
        assert await user.peek("Bob") is None
        assert await user.refresh("Ada") == ADA
        assert user.cache_info() == (1, 1)

    async def test_the_region_says_it(self, cache: Cache):
        await cache.create_region(CacheRegion("users"))

        @cache.region("users", type=User).cached("user:{name}")
        async def user(name: str):
            return User(name, ADA.born)

        for _ in range(2):
            assert await user("Ada") == ADA
        assert await user.peek("Ada") == ADA

    async def test_one_without_annotation_is_named(self, cache: Cache):
        @cache.cached("user:{name}")
        async def user(name: str):
            return User(name, ADA.born)

        with pytest.raises(TypeRequired, match=r"test_one_without_annotation.*user gave a User"):
            await user("Ada")

    async def test_many(self, cache: Cache):
        @cache.cached_many("account:{numbers}")
        async def accounts(numbers: list[int]) -> dict[int, Account]:
            return {number: Account(number) for number in numbers}

        assert await accounts([1, 2]) == {1: Account(1), 2: Account(2)}
        assert await accounts([2, 3]) == {2: Account(2), 3: Account(3)}

    def test_plain_functions(self, clock: ManualClock):
        with Cache(backend=BytesBackend(clock, near=True), clock=clock).sync as cache:

            @cache.cached("user:{name}")
            def user(name: str) -> User:
                return User(name, ADA.born)

            @cache.cached_many("account:{numbers}")
            def accounts(numbers: list[int]) -> Mapping[int, Account]:
                return {number: Account(number) for number in numbers}

            for _ in range(2):
                assert user("Ada") == ADA
                assert accounts([1, 2]) == {1: Account(1), 2: Account(2)}
            assert user.peek("Ada") == ADA
            assert user.refresh("Ada") == ADA


class TestOtherOperations:
    async def test_checks_by_value(self, cache: Cache):
        await cache.set_many({"user": ADA, "users": [ADA], "plain": {"a": (1, 2)}, "count": 1})

        async def holds(key: str, value: object) -> bool:
            return await cache.atomic().check(key, value).set("seen", 1).execute()

        assert await holds("user", ADA)
        assert not await holds("user", Account(5))
        assert not await holds("user", User("Bob", ADA.born))
        assert await holds("users", [ADA])
        assert await holds("plain", {"a": (1, 2)})
        assert not await holds("plain", {"a": [1, 2]})
        assert await holds("count", 1)
        assert not await holds("count", True)
        assert not await holds("count", 1.0)
        assert not await holds("absent", 1)

    async def test_a_check_in_a_typed_region_sees_what_its_reads_see(self, cache: Cache):
        await cache.create_region(CacheRegion("r"))
        users = cache.region("r", type=OldUser)
        await cache.region("r").set("k", {"name": "Ada"})

        assert await users.atomic().check("k", OldUser("Ada")).delete("k").execute()

    async def test_increment(self, cache: Cache):
        assert await cache.increment("n", 5) == 5
        assert await cache.increment("n", -2) == 3
        assert await cache.get("n") == 3
        await cache.set("n", 10)
        assert await cache.increment("n") == 11
        assert await cache.get("n", type=float) == 11.0

        await cache.set("n", "text")
        with pytest.raises(TypeMismatch):
            await cache.increment("n")

    async def test_a_cache_that_is_switched_off(self, cache: Cache):
        with disabled(cache):
            for _ in range(2):
                assert await cache.get_or_load("k", load_ada) == ADA
                await cache.set("k", ADA)
                assert await cache.get("k", type=User) is None
                assert await cache.increment("n", initial=1) == 2
        assert not await cache.exists("k")

    async def test_batches(self, cache: Cache):
        async with cache.batch() as batch:
            batch.set("a", ADA).set("b", [1]).delete("c")

        assert await cache.get("a", type=User) == ADA
        assert await cache.get("b") == [1]

    def test_the_sync_face(self, clock: ManualClock):
        backend = BytesBackend(clock, near=True)
        with Cache(backend=backend, clock=clock).sync as cache:
            cache.create_region(CacheRegion("users"))
            users = cache.region("users", type=User)
            users.set("ada", ADA)
            cache.set("k", ADA)
            for _ in range(2):
                assert users.get("ada") == ADA
                assert cache.get("k", type=User) == ADA
                assert cache.get_or_load("l", load_ada) == ADA
                assert cache.get_or_load_many(["m"], lambda keys: dict.fromkeys(keys, 1)) == {
                    "m": 1
                }
            with pytest.raises(TypeRequired):
                cache.get("k")
            assert cache.atomic().check("m", 1).set("m", 2).execute()
            assert cache.increment("m") == 3
        assert backend.owed == {}


class TestSettings:
    def test_weights_are_stored_bytes(self, clock: ManualClock):
        with pytest.raises(InvalidArgument, match="bytes"):
            Cache(backend=BytesBackend(clock), weigher=lambda key, value: 1)

    async def test_also_in_a_region_added_later(self, cache: Cache):
        with pytest.raises(InvalidArgument, match="bytes"):
            await cache.create_region(CacheRegion("r"), weigher=lambda key, value: 1)
        assert "r" not in cache.regions

        await cache.create_region(CacheRegion("r"))

    async def test_a_codec_of_ones_own(self, clock: ManualClock):
        class Reversed:
            def encode(self, value: Any) -> bytes:
                return str(value)[::-1].encode()

            def decode(self, data: bytes, type: Any) -> Any:
                return data.decode()[::-1]

        class Shouting(Reversed):
            def decode(self, data: bytes, type: Any) -> Any:
                return super().decode(data, type).upper()

        async with Cache(backend=BytesBackend(clock), codec=Reversed()) as cache:
            region = await cache.create_region(CacheRegion("loud"), codec=Shouting())
            with pytest.raises(InvalidArgument):
                await cache.create_region(
                    CacheRegion("other"), codec=Shouting(), weigher=lambda key, value: 1
                )
            other = await cache.create_region(CacheRegion("other"))
            for each in (cache, region, other):
                await each.set("k", "abc")

            assert await cache.get("k") == "abc"
            assert await region.get("k") == "ABC"
            assert await other.get("k") == "abc"
            assert await cache.get_or_load("l", lambda: "xyz") == "xyz"

    def test_serialization_acts_here_and_not_in_memory(
        self, clock: ManualClock, recwarn: pytest.WarningsRecorder
    ):
        config = CacheConfig(serialization=SerializationConfig(format="json"))
        Cache(config, backend=BytesBackend(clock))
        assert not recwarn.list

        with pytest.warns(InactiveSetting, match="'serialization'.*keeps objects"):
            Cache(config)


def _plain(): ...
def _user() -> User: ...  # type: ignore[empty-body]
def _any() -> Any: ...
def _none() -> None: ...
def _quoted() -> "User | None": ...  # noqa: UP037
def _unknown() -> Nowhere: ...  # type: ignore[name-defined] # noqa: F821
def _awaitable() -> Awaitable[User]: ...  # type: ignore[empty-body]
def _coroutine() -> Coroutine[Any, Any, list[User]]: ...  # type: ignore[empty-body]
def _mapping() -> Mapping[int, User]: ...  # type: ignore[empty-body]


class _Callable:
    def __call__(self) -> User:
        return ADA

    def method(self) -> User:
        return ADA


@pytest.mark.parametrize(
    ("function", "many", "expected"),
    [
        (_plain, False, None),
        (_user, False, User),
        (_any, False, None),
        (_none, False, type(None)),
        (_quoted, False, User | None),
        (_unknown, False, None),
        (_awaitable, False, User),
        (_coroutine, False, list[User]),
        (load_ada, False, User),
        (partial(partial(load_ada)), False, User),
        (lambda: 1, False, None),
        (User, False, User),
        (_Callable(), False, User),
        (_Callable().method, False, User),
        (_mapping, True, User),
        (_mapping, False, Mapping[int, User]),
        (_user, True, None),
        (_plain, True, None),
        (len, False, None),
    ],
)
def test_what_a_function_returns(function: Any, many: bool, expected: Any):
    assert returned_type(function, many=many) == expected


class Reversed:
    """A codec of one's own."""

    def encode(self, value):
        return repr(value)[::-1].encode()

    def decode(self, data, type):
        return data.decode()[::-1]


async def test_a_format_that_keeps_no_ints_refuses_to_count():
    clock = ManualClock()
    async with Cache(clock=clock, backend=BytesBackend(clock), codec=Reversed()) as cache:
        with pytest.raises(NotSupported, match="increment adds to ints"):
            await cache.increment("n")
