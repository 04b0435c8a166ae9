"""Regions with limits of their own on shared servers, and regions that clear at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from tests.redis.backends import flush, make_backend
from tests.redis.servers import Deployment
from tests.redis.test_sharing import move

from clusterdb.cache.backends.redis.limits import Limits
from clusterdb.cache.backends.redis.sweeping import Pace
from clusterdb.cache.claims import Claim
from clusterdb.cache.codec import region_codec
from clusterdb.cache.config import SerializationConfig
from clusterdb.cache.errors import EntryTooLarge
from clusterdb.cache.protocols import Add, Drop, Exported, Put, Touch, Written
from clusterdb.cache.table import When
from clusterdb.cache.testing import EncodingBackend
from clusterdb.cache.testing.conformance import region_settings
from clusterdb.cache.transport import slot_of

FAST = Pace(notes=0.02, uses=0.2, sweep=0.1, busy=0.05, rest=0.1, young=0.15, lock=0.5)
WITHIN = 10.0
WHEN: tuple[When, ...] = ("always", "always", "absent", "present")


def limits_of(backend: EncodingBackend) -> Limits:
    inner: Any = backend._backend
    limits: Limits = inner._limits
    return limits


@asynccontextmanager
async def limited(
    deployment: Deployment, *, pace: Pace = FAST, **changes: Any
) -> AsyncIterator[EncodingBackend]:
    """An open backend with one region, ``main``, of such settings."""
    backend = EncodingBackend(make_backend(deployment))
    limits_of(backend).pace = pace
    own = "max_items" in changes or "max_weight" in changes
    backend.configure({"main": region_settings("main", **{"own_limits": own, **changes})})
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


@pytest.fixture(params=["standalone", "cluster"])
def servers(request: pytest.FixtureRequest) -> Deployment:
    deployment: Deployment = request.getfixturevalue(request.param)
    flush(deployment)
    return deployment


@pytest.fixture
def alone(standalone: Deployment) -> Deployment:
    flush(standalone)
    return standalone


def names(deployment: Deployment, glob: str = "test:main:*") -> list[str]:
    """The keys on the primaries, as the servers have them."""
    found: set[str] = set()
    for server in deployment.servers:
        found.update(server.cli("KEYS", glob).split())
    return sorted(found)


async def keys_of(backend: EncodingBackend) -> list[str]:
    return sorted([key async for batch in backend.scan("main", "*", 1000) for key in batch])


def weight(entries: Mapping[str, object]) -> int:
    """Payload and key in bytes."""
    codec = region_codec("main", SerializationConfig(), None)
    return sum([len(key) + len(codec.encode(value).payload) for key, value in entries.items()])


async def totals(backend: EncodingBackend) -> tuple[int | None, int | None]:
    region = (await backend.describe()).regions["main"]
    return region.items, region.weight


async def until(true: Callable[[], Awaitable[object]], what: str) -> None:
    """Wait until something is so, within the time in which limits hold."""
    try:
        async with asyncio.timeout(WITHIN):
            while not await true():  # noqa: ASYNC110 - it is so on servers
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {WITHIN:g} s: {what}") from None


async def settles(backend: EncodingBackend, expected: list[str]) -> None:
    """The region's keys become ``expected``, and stay so over the next sweeps."""

    async def there() -> bool:
        return await keys_of(backend) == sorted(expected)

    try:
        await until(there, "the keys that were to stay")
    except AssertionError:
        assert await keys_of(backend) == sorted(expected)
    await asyncio.sleep(4 * FAST.sweep)
    assert await keys_of(backend) == sorted(expected)


class TestBounds:
    async def test_items_hold_under_load_from_two_processes(self, servers):
        limit = 300
        async with (
            limited(servers, max_items=limit) as one,
            limited(servers, max_items=limit) as two,
        ):
            most = 0
            for round_ in range(25):
                for number, backend in enumerate((one, two)):
                    puts = [Put(f"{number}:{round_}:{n}", b"x") for n in range(40)]
                    await backend.write("main", puts)
                await asyncio.sleep(0.04)
                most = max(most, len(names(servers)) if round_ % 8 == 7 else 0)

            async def fits() -> bool:
                return len(names(servers)) <= limit

            await until(fits, "the limit")
            assert len(names(servers)) == limit
            assert await totals(one) == await totals(two)
            assert (await totals(two))[0] == limit
            assert most < 2000, "nothing was evicted while it was written"

    async def test_bytes_hold_and_are_payload_and_key(self, servers):
        async with limited(servers, max_weight=10_000, policy="fifo") as backend:
            await backend.write("main", [Put("first", b"12345")])
            assert await totals(backend) == (1, weight({"first": b"12345"}))
            for number in range(60):
                await backend.write("main", [Put(f"k{number:02}", bytes(970 + number % 10))])
            await settles(backend, [f"k{number}" for number in range(50, 60)])
            kept = {f"k{number:02}": bytes(970 + number % 10) for number in range(50, 60)}
            assert await totals(backend) == (10, weight(kept))
            assert 9_500 <= weight(kept) <= 10_000

    async def test_what_could_never_fit_is_refused(self, alone):
        async with limited(alone, max_weight=100) as backend:
            await backend.write("main", [Put("k", b"old")])
            large, small = await backend.write("main", [Put("k", bytes(100)), Put("l", b"")])
            assert isinstance(large, EntryTooLarge)
            assert isinstance(small, Written)
            with pytest.raises(EntryTooLarge):
                await backend.commit("main", [], [Put("m", b""), Put("k", bytes(100))])
            [held] = await backend.claim("main", ["n"], (), 30)
            assert isinstance(held, Claim)
            [outcome] = await backend.fill("main", [(held, Put("n", bytes(100)))])
            assert isinstance(outcome, EntryTooLarge)
            assert await keys_of(backend) == ["k", "l"]
            assert (await backend.describe()).regions["main"].counters.rejections == 3

    async def test_what_is_restored_is_counted_and_may_be_too_large(self, servers):
        async with limited(servers, max_weight=1_000_000) as backend:
            await backend.write("main", [Put(f"k{n}", bytes(50)) for n in range(10)])
            await backend.write("main", [Put("large", bytes(300))])
            batches = [batch async for batch in backend.export("main")]
            entries = [each for batch in batches for each in batch if isinstance(each, Exported)]
            before = await totals(backend)
            await backend.clear(["main"])
            assert await totals(backend) == (0, 0)
            await backend.restore("main", entries)
            assert await totals(backend) == before
        async with limited(servers, max_weight=200) as backend:
            outcomes = await backend.restore("main", entries, overwrite="always")
            refused = [
                entry.key
                for entry, outcome in zip(entries, outcomes, strict=True)
                if isinstance(outcome, EntryTooLarge)
            ]
            assert refused == ["large"]

    async def test_each_kind_of_change_is_counted(self, servers):
        async with limited(servers, max_items=100, max_weight=10_000) as backend:
            await backend.write("main", [Put("a", b"123"), Put("{s}b", b"1", when="absent")])
            await backend.write("main", [Add("n", 10, 0, None), Put("gone", b"")])
            await backend.write("main", [Put("a", b"12345"), Drop("gone"), Touch("{s}b", 60)])
            await backend.commit("main", [], [Put("{s}c", b""), Drop("{s}b")])
            [held] = await backend.claim("main", ["f"], (), 30)
            assert isinstance(held, Claim)
            await backend.fill("main", [(held, Put("f", b"12"))])
            kept = {"a": b"12345", "n": 10, "{s}c": b"", "f": b"12"}
            assert await totals(backend) == (4, weight(kept))
            assert await backend.clear(["main"]) == 4
            assert await totals(backend) == (0, 0)

    async def test_what_expires_makes_room(self, alone):
        async with limited(alone, max_items=10, policy="fifo") as backend:
            await backend.write("main", [Put(f"old{n}", 1) for n in range(6)])
            await backend.write("main", [Put(f"short{n}", 1, 0.05) for n in range(4)])
            await asyncio.sleep(0.1)
            await backend.write("main", [Put(f"new{n}", 1) for n in range(4)])
            kept = [f"old{n}" for n in range(6)] + [f"new{n}" for n in range(4)]
            await settles(backend, kept)
            assert (await totals(backend))[0] == 10

    async def test_a_claim_is_no_entry(self, alone):
        async with limited(alone, max_items=5) as backend:
            await backend.claim("main", [f"c{n}" for n in range(20)], (), 30)
            await backend.write("main", [Put(f"k{n}", 1) for n in range(5)])
            await asyncio.sleep(4 * FAST.sweep)
            assert (await totals(backend))[0] == 5
            assert len(await keys_of(backend)) == 5


class TestOrder:
    async def test_fifo_goes_by_the_first_write_of_any_process(self, servers):
        async with (
            limited(servers, max_items=20, policy="fifo") as one,
            limited(servers, max_items=20, policy="fifo") as two,
        ):
            for number in range(60):
                await (one, two)[number % 2].write("main", [Put(f"k{number:02}", number)])
                if number == 50:
                    await asyncio.sleep(3 * FAST.notes)
                if number >= 40:  # written again, it stays where it was
                    await two.write("main", [Put("k39", number)])
                    await one.read("main", ["k38"])
            await settles(one, [f"k{number}" for number in range(40, 60)])

    async def test_fifo_takes_a_removed_key_for_a_new_one(self, alone):
        async with limited(alone, max_items=3, policy="fifo") as backend:
            for key in "abc":
                await backend.write("main", [Put(key, 1)])
            await totals(backend)
            await backend.write("main", [Drop("a"), Put("a", 2)])
            await backend.write("main", [Put("d", 1)])
            await settles(backend, ["a", "c", "d"])

    async def test_lru_goes_by_the_last_use_in_any_process(self, servers):
        async with limited(servers, max_items=10) as one, limited(servers, max_items=10) as two:
            for number in range(10):
                await one.write("main", [Put(f"k{number}", number)])
            await totals(one)
            await asyncio.sleep(2 * FAST.uses)
            await two.read("main", ["k0", "k3", "absent"])
            await one.write("main", [Put("k5", "again")])
            await totals(two)
            await one.write("main", [Put(f"n{number}", number) for number in range(7)])
            kept = ["k0", "k3", "k5"] + [f"n{number}" for number in range(7)]
            await settles(one, kept)

    async def test_lfu_keeps_what_is_used_most(self, alone):
        async with limited(alone, max_items=4, policy="lfu") as backend:
            await backend.write("main", [Put(key, 1) for key in "abcd"])
            for _ in range(5):
                await backend.read("main", ["b", "d"])
            await asyncio.sleep(2 * FAST.uses)
            for key in "efgh":
                await backend.write("main", [Put(key, 1)])
                await asyncio.sleep(2 * FAST.notes)
            await settles(backend, ["b", "d", "g", "h"])


class TestOthers:
    async def test_a_region_without_limits_costs_nothing(self, servers):
        """Nor does one that has those of the cache."""
        async with limited(servers, max_items=5, own_limits=False) as backend:
            await backend.write("main", [Put(f"k{n}", 1) for n in range(20)])
            await backend.read("main", [f"k{n}" for n in range(20)])
            await asyncio.sleep(3 * FAST.sweep)
            others = [name for name in names(servers, "*") if ":#wait:" not in name]
            assert len(others) == len(names(servers)) == 20
            assert limits_of(backend)._task is None
            assert await totals(backend) == (None, None)

    async def test_the_elected_process_dies_and_another_takes_over(self, alone):
        async with limited(alone, max_items=10) as first:
            await first.write("main", [Put("k", 1)])

            async def elected() -> bool:
                return bool(names(alone, "*sweeper"))

            await until(elected, "an election")
            token = alone.servers[0].cli("GET", "test:#sweeper")
            async with limited(alone, max_items=10) as second:
                for _ in range(6):
                    await asyncio.sleep(FAST.lock / 5)
                    assert int(alone.servers[0].cli("PTTL", "test:#sweeper")) > 1000 * FAST.lock / 3
                assert alone.servers[0].cli("GET", "test:#sweeper") == token
                dying = limits_of(first)._task
                assert dying is not None
                dying.cancel()  # as a process that is killed: the lock stays
                await asyncio.wait([dying])
                await second.write("main", [Put(f"k{n}", 1) for n in range(50)])

                async def fits() -> bool:
                    return len(names(alone)) == 10

                await until(fits, "the limit, by another process")
                assert (await second.describe()).regions["main"].counters.evictions == 41

    async def test_a_process_that_leaves_tells_what_it_wrote(self, servers):
        slow = FAST._replace(notes=60.0)
        async with limited(servers, max_items=10) as stays:
            async with limited(servers, pace=slow, max_items=10) as leaves:
                await leaves.write("main", [Put(f"k{n}", 1) for n in range(30)])
                assert (await totals(stays))[0] == 0
            assert await totals(stays) != (0, 0)

            async def fits() -> bool:
                return len(names(servers)) == 10

            await until(fits, "the limit")


class TestDrift:
    async def test_entries_that_nobody_told_of_are_found(self, servers):
        """Written by processes that died, or before the region had limits."""
        async with limited(servers) as backend:
            for number in range(30):
                await backend.write("main", [Put(f"k{number:02}", bytes(10), 600)])
        async with limited(servers, max_items=20, policy="fifo") as backend:
            await settles(backend, [f"k{number}" for number in range(10, 30)])
            assert await totals(backend) == (20, 20 * weight({"k00": bytes(10)}))

    async def test_members_whose_entries_are_gone_are_forgotten(self, servers):
        async with limited(servers, max_items=20) as backend:
            await backend.write("main", [Put(f"k{n}", b"x") for n in range(20)])
            assert await totals(backend) == (20, weight({f"k{n}": b"x" for n in range(20)}))
            for number in range(10):
                for server in servers.servers:
                    server.cli("UNLINK", f"test:main:k{number}")

            async def known() -> bool:
                kept = {f"k{n}": b"x" for n in range(10, 20)}
                return await totals(backend) == (10, weight(kept))

            await until(known, "the loss is known")

    @pytest.mark.parametrize("part", ["order", "weight"])
    async def test_a_lost_index_is_made_again(self, alone, part):
        async with limited(alone, max_items=20, policy="fifo") as backend:
            for number in range(20):
                await backend.write("main", [Put(f"k{number:02}", b"x", 600)])
            assert await totals(backend) == (20, 20 * weight({"k00": b"x"}))
            alone.servers[0].cli("UNLINK", f"test:#index:{{main:0}}:{part}")
            await backend.write("main", [Put("k20", b"x")])
            await settles(backend, [f"k{number:02}" for number in range(1, 21)])

            async def known() -> bool:
                return await totals(backend) == (20, 20 * weight({"k00": b"x"}))

            await until(known, "all entries again")

    async def test_what_is_told_at_once_is_as_what_is_told_one_by_one(self, alone):
        """Whatever happens to a few keys, the index has what the server has."""
        random = Random(7)
        slow = FAST._replace(notes=60.0, sweep=60.0, rest=600.0)
        async with limited(alone, pace=slow, max_items=1000, policy="fifo") as backend:
            await until(lambda: looked(backend), "the first look")
            for _ in range(40):
                for _ in range(random.randrange(1, 12)):
                    await backend.write("main", [any_change(random)])
                    if random.random() < 0.1:
                        await asyncio.sleep(0.015)
                await totals(backend)
                await asyncio.sleep(0.015)  # what had a short TTL has ended now
                weights = []
                for name in names(alone):
                    size = int(alone.servers[0].cli("STRLEN", name)) - 35
                    weights.append(len(name) - len("test:main:") + size)
                assert await totals(backend) == (len(weights), sum(weights))

    async def test_an_index_moves_with_its_slots(self, cluster):
        flush(cluster)
        limit = 64
        async with limited(cluster, max_items=limit) as backend:
            writing = asyncio.create_task(write_on(backend))
            for shard in (0, 7):
                await asyncio.sleep(0.1)
                slot = slot_of(f"test:#index:{{main:{shard}}}:order".encode())
                await asyncio.to_thread(move, cluster, slot)
            await asyncio.sleep(0.3)
            assert not writing.done(), "a write failed while slots moved"
            writing.cancel()
            await asyncio.wait([writing])

            async def fits() -> bool:
                found = len(names(cluster))
                return limit * 0.75 <= found <= limit and (await totals(backend))[0] == found

            await until(fits, "the limit, and an index that knows what is there")


async def write_on(backend: EncodingBackend) -> None:
    number = 0
    while True:
        await backend.write("main", [Put(f"k{number + n}", b"x") for n in range(10)])
        number += 10
        await asyncio.sleep(0.01)


async def looked(backend: EncodingBackend) -> bool:
    """Whether it has begun to look at everything; with a slow pace it does not go on."""
    return limits_of(backend)._sweeping._looking is not None


def any_change(random: Random) -> Put | Drop | Touch | Add:
    key = random.choice("abcd")
    kind = random.randrange(8)
    ttl = random.choice([None, 60.0, 0.01])
    if kind == 0:
        return Drop(key)
    if kind == 1:
        return Touch(key, ttl)
    if kind == 2:
        return Add(random.choice("xy"), 10 ** random.randrange(5), 0, ttl)
    when: When = random.choice(WHEN)
    return Put(key, bytes(random.randrange(50)), ttl, (), when, random.random() < 0.2)


class TestInstantClear:
    async def test_it_takes_one_write_and_gives_the_memory_back(self, servers):
        async with limited(servers, pace=FAST._replace(rest=0.0), instant_clear=True) as backend:
            keys = [f"k{number}" for number in range(10_000)]
            for at in range(0, len(keys), 2000):
                await backend.write("main", [Put(key, 1) for key in keys[at : at + 2000]])
            [held] = await backend.claim("main", ["late"], ("t",), 30)
            assert isinstance(held, Claim)

            before = writes(servers)
            assert await backend.clear(["main"]) == 0
            assert writes(servers) - before < 20

            [outcome] = await backend.fill("main", [(held, Put("late", "old"))])
            assert isinstance(outcome, Written)
            assert not outcome.applied
            assert await backend.read("main", [*keys[:50], "late"]) == [None] * 51
            assert await keys_of(backend) == []
            await backend.write("main", [Put("k7", 2)])
            assert await keys_of(backend) == ["k7"]

            async def removed() -> bool:
                return names(servers) == ["test:main:k7"]

            await until(removed, "what was cleared is removed")
            [record] = await backend.read("main", ["k7"])
            assert record is not None
            assert record.value == 2

    async def test_a_load_that_races_with_it_stores_nothing_that_lives(self, servers):
        async with (
            limited(servers, instant_clear=True) as one,
            limited(servers, instant_clear=True) as two,
        ):
            for number in range(30):
                [held] = await one.claim("main", ["k"], (), 30)
                assert isinstance(held, Claim)
                fill = one.fill("main", [(held, Put("k", number))])
                [outcome], _ = await asyncio.gather(fill, two.clear(["main"]))
                assert isinstance(outcome, Written)
                assert await one.read("main", ["k"]) == [None]
                assert await two.read("main", ["k"]) == [None]

    async def test_all_that_makes_entries_makes_them_clearable(self, servers):
        async with limited(servers, instant_clear=True) as backend:
            for _ in range(2):
                await backend.write("main", [Put("a", 1), Put("b", 1, 60, ("t",), "absent")])
                await backend.write("main", [Add("n", 5, 10, None), Add("n", 1, 0, None)])
                await backend.commit("main", [], [Put("c", 1)])
                [held] = await backend.claim("main", ["f"], ("t",), 30)
                assert isinstance(held, Claim)
                await backend.extend("main", [held], ("u",))
                await backend.fill("main", [(held, Put("f", 1))])
                assert await keys_of(backend) == ["a", "b", "c", "f", "n"]
                records = await backend.read("main", ["b", "f", "n"])
                tags = [record and set(record.tags) for record in records]
                assert tags == [{"t"}, {"t", "u"}, set()]
                assert records[2] is not None
                assert records[2].value == 16
                await backend.clear(["main"])
                assert await backend.read("main", ["a", "b", "c", "f", "n"]) == [None] * 5
                assert await keys_of(backend) == []

    async def test_tags_still_end(self, alone):
        async with limited(alone, instant_clear=True) as backend:
            await backend.write("main", [Put("a", 1, None, ("t",)), Put("b", 1)])
            await backend.invalidate_tags(["t"])
            [a, b] = await backend.read("main", ["a", "b"])
            assert a is None
            assert b is not None

    async def test_with_limits_the_counts_are_those_of_what_lives(self, servers):
        async with limited(servers, instant_clear=True, max_items=10) as backend:
            await backend.write("main", [Put(f"k{n}", 1) for n in range(10)])
            assert (await totals(backend))[0] == 10
            await backend.clear(["main"])
            await backend.write("main", [Put(f"n{n}", 1) for n in range(12)])

            async def fits() -> bool:
                return len(names(servers)) == 10 and (await totals(backend))[0] == 10

            await until(fits, "the limit")
            assert all(key.startswith("n") for key in await keys_of(backend))


def writes(deployment: Deployment) -> int:
    """How many commands that change something the servers have had, sweeps among them."""
    calls = 0
    for server in deployment.servers:
        for line in server.cli("INFO", "commandstats").splitlines():
            verb, _, figures = line.partition(":")
            if verb in ("cmdstat_set", "cmdstat_unlink", "cmdstat_evalsha"):
                calls += int(figures.partition("calls=")[2].partition(",")[0])
    return calls
