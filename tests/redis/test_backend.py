"""What the Redis backend keeps beyond the contract: its format, foreign keys, full memory."""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import times
from tests.redis.backends import flush, make_backend, opened
from tests.redis.servers import Deployment
from tests.redis.servers import standalone as start_standalone

from clusterdb.cache import Cache
from clusterdb.cache.backends.redis.names import Names
from clusterdb.cache.claims import Claim
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import region_codec
from clusterdb.cache.config import LRU, CacheConfig, CachePolicy, Redis, SerializationConfig
from clusterdb.cache.errors import CacheError, ServerError, TypeMismatch, Undecodable
from clusterdb.cache.protocols import Add, Backend, Drop, Put, Touch, Written
from clusterdb.cache.testing import EncodingBackend, ManualClock
from clusterdb.cache.testing.conformance import region_settings
from clusterdb.cache.types import MISSING, Record
from clusterdb.cache.versions import Versions

MOST, LEAST = 2**63 - 1, -(2**63)


@pytest.fixture
def server_(standalone):
    flush(standalone)
    return standalone.servers[0]


@pytest.fixture
async def backend(standalone, server_):
    async with opened(standalone) as backend:
        yield backend


async def value(backend: Backend, key: str) -> object:
    [record] = await backend.read("main", [key])
    return MISSING if record is None else record.value


async def expires_in(backend: Backend, key: str) -> float:
    [record] = await backend.read("main", [key])
    assert record is not None
    assert record.expires_in is not None
    return record.expires_in


async def add(backend: Backend, key: str, delta: int, initial: int = 0) -> int:
    [written] = await backend.write("main", [Add(key, delta, initial, None)])
    assert isinstance(written, Written), written
    return written.total


async def claim(backend: Backend, key: str, *tags: str, lease: float = 30.0) -> Claim:
    [answer] = await backend.claim("main", [key], tags, lease)
    assert isinstance(answer, Claim), answer
    return answer


async def fill(backend: Backend, held: Claim, stored: object) -> bool:
    [outcome] = await backend.fill("main", [(held, Put(held.key, stored))])
    assert isinstance(outcome, Written), outcome
    return outcome.applied


def scripts_run(server) -> int:
    """How many scripts a server has run."""
    found = server.info("commandstats")
    told = [found.get(f"cmdstat_{name}", "calls=0,") for name in ("eval", "evalsha")]
    return sum([int(each.partition("calls=")[2].partition(",")[0]) for each in told])


class TestFences:
    async def test_those_of_many_keys_are_a_few_scripts(self, backend, server_):
        """And each is filled or lost by itself."""
        keys = [f"key:{number}" for number in range(300)]
        await backend.fence("main", keys[:1], 30.0)  # the server knows the script from now on
        before = scripts_run(server_)
        fences = await backend.fence("main", keys, 30.0)
        assert scripts_run(server_) - before == 3
        server_.cli("SET", "test:main:key:7", "of another")
        outcomes = await backend.fill(
            "main", [(fence, Put(fence.key, number)) for number, fence in enumerate(fences)]
        )

        applied = [isinstance(each, Written) and each.applied for each in outcomes]
        assert applied == [number != 7 for number in range(300)]
        assert [await value(backend, key) for key in ("key:6", "key:299")] == [6, 299]
        assert scripts_run(server_) - before <= 3 + 3 + 3  # a script that is new is sent again


class TestCommits:
    async def test_all_keys_of_one_are_told_as_written(self, backend):
        """A process does not ask a replica for what it has just written."""
        told: list[bytes] = []
        backend._backend._link.on_written = told.extend
        assert await backend.commit("main", [], [Put("a", 1), Put("b", 2)])
        assert {b"test:main:a", b"test:main:b"} <= set(told)


class TestFormat:
    async def test_keys_have_natural_names(self, backend, server_):
        await backend.write("main", [Put("user:{42}", 1, 60, ("t",))])

        assert sorted(server_.cli("KEYS", "*").split()) == ["test:#tag:t", "test:main:user:{42}"]
        assert 0 < int(server_.cli("PTTL", "test:main:user:{42}")) <= 60_000
        assert server_.cli("STRLEN", "test:#tag:t") == "8"
        assert server_.cli("PTTL", "test:#tag:t") == "-1"

    async def test_an_entry_is_the_envelope_of_the_reference(self, backend, standalone):
        [written] = await backend.write("main", [Put("k", "v")])

        data = await raw(standalone, "GET", "test:main:k")
        codec = region_codec("main", SerializationConfig(), None)
        sealed = codec.unseal("k", data)
        assert (sealed.version, sealed.expires_at, sealed.tags) == (written.version, None, ())
        assert codec.decode(sealed.encoded) == "v"

    async def test_an_entry_carries_its_grace(self, standalone, server_):
        async with opened(standalone, grace=90) as backend:
            await backend.write("main", [Put("k", "v", 10)])

        data = await raw(standalone, "GET", "test:main:k")
        assert struct.unpack_from(">d", data, 15) == (-90.0,)
        assert 99_000 < int(server_.cli("PTTL", "test:main:k")) <= 100_000

    async def test_a_claim_is_a_zero_byte_a_token_and_two_times(self, backend, standalone, server_):
        await claim(backend, "k", lease=20)

        data = await raw(standalone, "GET", "test:main:k")
        seconds, micros = map(int, server_.cli("TIME").split())
        held_until, kept_until = struct.unpack_from(">dd", data, 17)
        assert (data[0], len(data), kept_until) == (0, 33, 0)
        assert abs(held_until - 1000 * seconds - micros / 1000 - 20_000) < 500
        assert 19_000 < int(server_.cli("PTTL", "test:main:k")) <= 20_000

    async def test_a_claim_keeps_the_stale_value_and_its_end(self, standalone, server_):
        async with opened(standalone, grace=50) as backend:
            await backend.write("main", [Put("k", "old", 0.02)])
            before = await raw(standalone, "GET", "test:main:k")
            ends = int(server_.cli("PEXPIRETIME", "test:main:k"))
            await asyncio.sleep(0.05)
            held = await claim(backend, "k", lease=1)

            data = await raw(standalone, "GET", "test:main:k")
            assert data[33:] == before
            assert struct.unpack_from(">d", data, 25) == (ends,)
            assert int(server_.cli("PTTL", "test:main:k")) > 40_000

            await backend.release("main", [held])
            assert await raw(standalone, "GET", "test:main:k") == before
            assert abs(int(server_.cli("PEXPIRETIME", "test:main:k")) - ends) <= 1

    async def test_a_claim_of_the_reference_is_a_claim(self, backend, standalone):
        """What another program writes by the reference holds here."""
        body = b"\0" + b"t" * 16 + struct.pack(">dd", 4e12, 0)
        await raw(standalone, "SET", "test:main:k", body, "PX", "60000")

        assert await backend.claim("main", ["k"], (), 30) == [None]
        assert await value(backend, "k") is MISSING


async def raw(deployment: Deployment, *command: str | bytes) -> bytes:
    """What one command brings back, past the backend."""
    plain = make_backend(deployment)
    await plain._link.open()
    try:
        return await plain._link.topology.call(None, command, plain._link.deadline())
    finally:
        await plain.aclose()


class TestGrace:
    async def test_another_grace_of_the_region_changes_no_expiry(self, standalone, server_):
        async with opened(standalone, grace=40) as backend:
            await backend.write("main", [Put("short", "v", 0.05), Put("long", "v", 60)])
            await asyncio.sleep(0.1)
            for grace in (0.0, 0.01, 100.0):
                backend.configure({"main": region_settings("main", grace=grace)})
                short, long = await backend.read("main", ["short", "long"])
                assert short is None, "an expired entry came back when its grace was taken away"
                assert long is not None
                assert 59 < await expires_in(backend, "long") <= 60
                [single] = await backend.read("main", ["short"])
                assert single is None

    async def test_a_touch_keeps_the_grace_of_the_entry(self, standalone, server_):
        async with opened(standalone, grace=40) as backend:
            await backend.write("main", [Put("k", "v", 10)])
            backend.configure({"main": region_settings("main", grace=0.0)})
            await backend.write("main", [Touch("k", 20)])
            assert 19 < await expires_in(backend, "k") <= 20


class TestSums:
    @settings(
        max_examples=times(60),
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(data=st.data())
    async def test_any_sums(self, backend, data):
        """The server's sum has the checksum that a reader expects, whatever the digits."""
        number = st.one_of(st.integers(LEAST, MOST), st.integers(-1000, 1000))
        total = data.draw(number)
        await backend.write("main", [Put("n", total)])
        for delta in data.draw(st.lists(number, max_size=4)):
            [written] = await backend.write("main", [Add("n", delta, 0, None)])
            if LEAST <= total + delta <= MOST:
                total += delta
                assert (written.total, written.applied) == (total, True)
            else:
                assert isinstance(written, CacheError)
            [record] = await backend.read("main", ["n"])
            assert record.value == total
            assert not isinstance(written, Written) or record.version == written.version

    async def test_deltas_beyond_64_bits(self, backend):
        assert await add(backend, "n", 2**64, initial=-(2**63) - 2**62) == 2**62
        assert await add(backend, "n", -(2**63) - 2**62) == -(2**63)

    @pytest.mark.parametrize("tags", [(), ("t",)])
    async def test_concurrent_sums_lose_nothing(self, backend, standalone, tags):
        await backend.write("main", [Put("n", 0, 60, tags)])
        async with opened(standalone) as other:
            adders = [backend, other] * 10
            await asyncio.gather(*[count(each, "n", 10) for each in adders])
        [record] = await backend.read("main", ["n"])
        assert (record.value, record.tags) == (200, tags)
        assert 55 < record.expires_in <= 60

    async def test_a_signed_sum_stays_signed(self, standalone, server_):
        signed = SerializationConfig(format="messagepack", keys=("secret" * 8,))
        codec = region_codec("main", signed, None)
        backend = make_backend(standalone)
        backend.configure({"main": region_settings("main", codec=codec)})
        await backend.open()
        for total in (5, 6, 7):
            [written] = await backend.write("main", [Add("n", 1, 4, None)])
            assert isinstance(written, Written)
            assert written.total == total
        [record] = await backend.read("main", ["n"])
        assert record is not None
        assert codec.decode(record.value) == 7
        await backend.aclose()

    async def test_an_int_of_a_region_with_grace(self, standalone, server_):
        async with opened(standalone, grace=30) as backend:
            assert [await add(backend, "n", 1) for _ in range(3)] == [1, 2, 3]
            assert await value(backend, "n") == 3

    async def test_what_is_no_int_is_refused(self, backend, server_):
        await backend.write("main", [Put("text", "1"), Put("tagged", "1", None, ("t",))])
        for key in ("text", "tagged"):
            [outcome] = await backend.write("main", [Add(key, 1, 0, None)])
            assert isinstance(outcome, TypeMismatch)
            assert await value(backend, key) == "1"


async def count(backend: Backend, key: str, times: int) -> None:
    for _ in range(times):
        await add(backend, key, 1)


class TestForeign:
    """Keys of another type, or with other bytes, where an entry should be."""

    FOREIGN = (("LPUSH", "x"), ("SADD", "x"), ("SET", "42"), ("SET", ""), ("SET", "\0short"))

    @pytest.fixture(params=FOREIGN, ids=" ".join)
    def foreign(self, server_, request):
        verb, content = request.param
        return verb.encode(), b"test:main:k", content.encode()

    @pytest.fixture(autouse=True)
    async def there(self, standalone, foreign):
        await raw(standalone, *foreign)

    async def test_it_reads_as_undecodable(self, standalone):
        plain = make_backend(standalone)
        codec = region_codec("main", SerializationConfig(), None)
        for grace in (0.0, 10.0):
            plain.configure({"main": region_settings("main", codec=codec, grace=grace)})
            await plain.open()
            for keys in (["k"], ["k", "none"]):
                record = (await plain.read("main", keys))[0]
                assert isinstance(record, Record)
                assert isinstance(record.value, Undecodable)
                assert record.version == 0
        removed = await plain.commit("main", [("k", 0)], [Drop("k")])
        assert removed is not None, "it can't be removed by the version it was read at"
        assert await plain.read("main", ["k"]) == [None]
        await plain.aclose()

    async def test_to_conditions_it_is_nothing(self, backend):
        present = Put("k", 1, when="present")
        absent = Put("k", 1, when="absent")
        outcomes = await backend.write("main", [present, Touch("k", 5), absent])
        assert [each.applied for each in outcomes] == [False, False, True]
        assert await value(backend, "k") == 1

    async def test_a_drop_removes_it(self, backend, server_):
        [outcome] = await backend.write("main", [Drop("k")])
        assert not outcome.applied
        assert server_.cli("EXISTS", "test:main:k") == "0"

    async def test_a_claim_replaces_it(self, backend):
        assert await fill(backend, await claim(backend, "k"), "loaded")
        assert await value(backend, "k") == "loaded"

    async def test_scans_leave_it_out_and_clear_takes_it(self, backend, server_):
        await backend.write("main", [Put("ours", 1)])
        assert [key async for batch in backend.scan("main", "*", 10) for key in batch] == ["ours"]
        assert await backend.clear(["main"]) == 1
        assert server_.cli("DBSIZE") == "0"

    async def test_an_increment_starts_anew(self, backend):
        assert await add(backend, "k", 2, initial=5) == 7


async def test_changes_of_one_key_keep_their_order_where_tags_have_to_be_judged(backend):
    await backend.write("main", [Put("k", 0, None, ("t",)), Put("l", 0, None, ("u",))])
    await backend.invalidate_tags(["t"])
    changes = [Put("k", 1, when="absent"), Put("k", 2), Add("l", 5, 0, None), Drop("l")]
    outcomes = await backend.write("main", changes)
    assert [outcome.applied for outcome in outcomes] == [True] * 4
    assert [await value(backend, key) for key in "kl"] == [2, MISSING]


async def test_a_swapped_entry_is_not_read(backend, server_):
    await backend.write("main", [Put("a", "secret of a")])
    server_.cli("COPY", "test:main:a", "test:main:b")
    with pytest.raises(AttributeError):  # the twin decodes an Undecodable
        await value(backend, "b")


async def test_a_nonce_that_is_lost_ends_the_entries_of_its_tag(backend, server_):
    await backend.write("main", [Put("k", 1, None, ("t",))])
    server_.cli("DEL", "test:#tag:t")
    assert await value(backend, "k") is MISSING
    await backend.write("main", [Put("k", 2, None, ("t",))])
    assert await value(backend, "k") == 2


async def test_a_nonce_of_another_type_ends_them_too_until_it_is_invalidated(backend, server_):
    await backend.write("main", [Put("k", 1, None, ("t",))])
    server_.cli("DEL", "test:#tag:t")
    server_.cli("LPUSH", "test:#tag:t", "x")
    assert await value(backend, "k") is MISSING
    await backend.invalidate_tags(["t"])
    await backend.write("main", [Put("k", 2, None, ("t",))])
    assert await value(backend, "k") == 2


async def test_large_values_come_back_and_grow_small_again(backend):
    large = {"body": "x" * 300_000}
    for stored in (large, "small", large):
        await backend.write("main", [Put("k", stored), Put("other", stored)])
        assert await value(backend, "k") == stored
        assert await value(backend, "k") == stored
        records = await backend.read("main", ["k", "other"])
        assert [record.value for record in records] == [stored, stored]


class TestScripts:
    async def test_flushed_scripts_under_load(self, backend, server_):
        done = asyncio.Event()

        async def flushing() -> None:
            while not done.is_set():
                server_.ask("SCRIPT", "FLUSH")
                await asyncio.sleep(0.002)

        flusher = asyncio.create_task(flushing())
        await asyncio.gather(*[count(backend, f"n{at}", 100) for at in range(20)])
        done.set()
        await flusher
        assert [await value(backend, f"n{at}") for at in range(20)] == [100] * 20

    async def test_a_script_that_a_server_does_not_know_is_sent(self, backend, server_):
        server_.ask("SCRIPT", "FLUSH")
        changes = [Put(f"k{at}", at, when="absent") for at in range(5)]
        outcomes = await backend.write("main", changes)
        assert all(outcome.applied for outcome in outcomes)


class TestFullMemory:
    @pytest.fixture
    def full(self, tmp_path):
        options = ["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]
        deployment = start_standalone(tmp_path, options=options)
        yield deployment
        deployment.stop()

    @pytest.fixture
    async def crammed(self, full):
        async with opened(full) as backend:
            await backend.write("main", [Put("first", 1, None, ("t",)), Put("n", 1)])
            for at in range(200):
                [outcome] = await backend.write("main", [Put(f"fill{at}", "x" * 20_000)])
                if not isinstance(outcome, Written):
                    break
            yield backend

    async def test_a_write_says_so(self, crammed):
        for change in (Put("more", "x" * 20_000), Put("more", "x", when="absent")):
            [outcome] = await crammed.write("main", [change])
            assert isinstance(outcome, ServerError)
            assert outcome.code == "OOM"
            assert "maxmemory" in str(outcome)
            assert "raise it" in str(outcome)

    async def test_reads_removals_and_invalidations_go_on(self, crammed):
        assert await value(crammed, "first") == 1
        await crammed.invalidate_tags(["t"])
        assert await value(crammed, "first") is MISSING
        [outcome] = await crammed.write("main", [Drop("n")])
        assert outcome.applied
        [outcome] = await crammed.write("main", [Touch("fill0", 50)])
        assert outcome.applied

    async def test_a_load_runs_and_stores_nothing(self, crammed):
        held = await claim(crammed, "loaded")
        assert await crammed.claim("main", ["loaded"], (), 30) == [None], "two load at once"
        assert not await fill(crammed, held, "value")
        assert await value(crammed, "loaded") is MISSING
        await crammed.release("main", [await claim(crammed, "loaded")])
        assert not crammed._backend._claiming.claims._claims

    async def test_a_claim_that_can_not_be_filled_is_given_back(self, crammed):
        await crammed.write("main", [Drop(f"fill{at}") for at in range(8)])
        held = await claim(crammed, "loaded")
        for at in range(200):
            [outcome] = await crammed.write("main", [Put(f"again{at}", "x" * 20_000)])
            if not isinstance(outcome, Written):
                break
        [outcome] = await crammed.fill("main", [(held, Put("loaded", "x" * 20_000))])
        assert isinstance(outcome, ServerError)
        await asyncio.sleep(0.1)
        await crammed.write("main", [Drop(f"again{at}") for at in range(8)])
        await claim(crammed, "loaded")


class TestProblems:
    def wanted(self, **limits):
        return {"policy": CachePolicy(eviction=LRU(**limits))}

    async def problems(self, deployment, **limits):
        async with opened(deployment, **self.wanted(**limits)) as backend:
            return (await backend.describe()).problems

    async def test_a_server_as_it_comes_has_none(self, standalone):
        async with opened(standalone) as backend:
            info = await backend.describe()
        assert info.problems == ()
        [server] = info.servers
        assert (server.role, server.replicas, server.lag) == ("master", 0, None)
        assert server.version.startswith("7.")
        assert 0 < server.latency < 1
        assert server.memory > 100_000

    async def test_a_policy_that_differs_is_told_and_logged_once(self, tmp_path, caplog):
        options = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lfu"]
        deployment = start_standalone(tmp_path, options=options)
        try:
            with caplog.at_level(logging.WARNING, logger="clusterdb.cache"):
                found = await self.problems(deployment, max_memory="50MiB")
            assert any("evicts by allkeys-lfu" in line and "allkeys-lru" in line for line in found)
            assert len(caplog.records) == 1
            found = await self.problems(deployment, max_memory="1GB")
            assert any("make them agree" in line for line in found)
        finally:
            deployment.stop()

    async def test_noeviction_volatile_and_missing_limits(self, tmp_path, standalone):
        assert any("no maxmemory" in p for p in await self.problems(standalone, max_memory="1MB"))
        assert any("near tier only" in p for p in await self.problems(standalone, max_items=5))
        for policy, said in (("noeviction", "refuses writes"), ("volatile-lru", "with a TTL")):
            options = ["--maxmemory", "50mb", "--maxmemory-policy", policy]
            deployment = start_standalone(tmp_path / policy, options=options)
            try:
                assert any(said in line for line in await self.problems(deployment))
            finally:
                deployment.stop()


class TestLife:
    async def test_a_closed_backend_says_so(self, standalone):
        backend = EncodingBackend(make_backend(standalone))
        backend.configure({"main": region_settings("main")})
        with pytest.raises(ConnectionError, match="closed"):
            await backend.read("main", ["k"])

    def test_one_cache_in_one_loop_after_another(self, standalone, server_):
        cache = Cache(CacheConfig(backend=Redis(urls=standalone.urls)))

        async def step(number: int) -> object:
            found = await cache.get("k")
            await cache.set("k", number)
            return found

        async def last() -> object:
            try:
                return await step(3)
            finally:
                await cache.aclose()

        assert [asyncio.run(step(1)), asyncio.run(step(2)), asyncio.run(last())] == [None, 1, 2]

    async def test_the_face_loads_once_and_increments(self, standalone, server_):
        async with Cache(CacheConfig(backend=Redis(urls=standalone.urls))) as cache:
            calls = []

            async def load() -> dict[str, int]:
                calls.append(1)
                await asyncio.sleep(0.02)
                return {"n": 1}

            loads = [cache.get_or_load("k", load, ttl=60, tags=("t",)) for _ in range(20)]
            assert await asyncio.gather(*loads) == [{"n": 1}] * 20
            assert len(calls) == 1
            assert [await cache.increment("hits") for _ in range(3)] == [1, 2, 3]
            assert await cache.atomic().check("hits", 3).set("hits", 10).execute()
            await cache.invalidate_tag("t")
            assert await cache.get("k") is None
            stats = (await cache.get_statistics()).total
            assert (stats.items, stats.sets) == (None, 5)
            assert (await cache.get_health()).status == "ok"


def test_versions_grow_even_if_the_clock_goes_back():
    clock = ManualClock()
    versions = Versions(clock)
    drawn = [versions.draw() for _ in range(5000)]
    assert drawn == sorted(set(drawn))
    assert Versions(SystemClock()).draw() < 2**64


def test_names_are_taken_apart_again():
    names = Names("shop")
    assert names.entry("cart", "a:b{c}") == b"shop:cart:a:b{c}"
    assert names.key("cart", b"shop:cart:a:b{c}") == "a:b{c}"
    assert names.key("cart", b"shop:carts:a") is None
    assert names.key("cart", b"shop:cart:\xff") is None
    assert names.pattern("cart", "a*b") == "shop:cart:a*"
    assert names.pattern("cart", r"x\*y") == "shop:cart:x*"
    assert names.pattern("cart", "plain") == "shop:cart:plain"
