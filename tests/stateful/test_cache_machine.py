"""The whole face of the cache against a plain model, step by step.

Forty sequences are tried, and more where ``CLUSTERDB_EFFORT`` is above 1; a thorough run is
``CLUSTERDB_EFFORT=100``. Only there a failing sequence is made shorter, which takes minutes.
"""

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.effort import EFFORT, times
from tests.stateful.model import Kept, Model, ModelRegion, TooLarge

from clusterdb.cache import (
    FIFO,
    LFU,
    LRU,
    BatchError,
    Cache,
    CacheConfig,
    CacheRegion,
    EntryTooLarge,
    GetOptions,
    Hit,
    InvalidArgument,
    Miss,
    Stale,
    TypeMismatch,
)
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.keys import matcher
from clusterdb.cache.regions import Region
from clusterdb.cache.table import Table
from clusterdb.cache.testing import ManualClock, validate_backend

T = TypeVar("T")

GRACE = 5.0
HEAVIEST = 10
LAST = 2**63 - 1
REGIONS = ["default", "fifo", "lru", "lfu", "graced", "heavy", "mortal"]
KEYS = ["a", "b", "user:1", "*é"]
GLOBS = ["*", "user:*", "?", "[a-c]", "user:[^1]", "\\*?", "none"]
COUNTED = (
    *("hits", "stale_hits", "misses", "sets", "deletes", "invalidations", "evictions"),
    *("expirations", "rejections"),
)

regions = st.sampled_from([0, 0, 0, 1])  # which of the regions that a sequence is about
keys = st.sampled_from(KEYS)
values = st.one_of(
    st.integers(-3, 3), st.text("xyz", min_size=1, max_size=12), st.none(), st.booleans()
)
ttls = st.sampled_from([None, 0.75, 2, 5, 1e10])
tags = st.lists(st.sampled_from(["t", "u", "v"]), max_size=3, unique=True).map(tuple)
steps = st.sampled_from([0.25, 0.75, 1, 2.5, 70])


def weigh(_: str, value: object) -> int:
    return len(value) if isinstance(value, str) else 1


def config() -> CacheConfig:
    return CacheConfig(
        regions=(
            CacheRegion("default", policy=LRU(), grace=GRACE),
            CacheRegion("fifo", policy=FIFO(max_items=3)),
            CacheRegion("lru", policy=LRU(max_items=3), grace=GRACE),
            CacheRegion("lfu", policy=LFU(max_items=3)),
            CacheRegion("graced", policy=LRU(), grace=GRACE),
            CacheRegion("heavy", policy=LRU(max_memory=HEAVIEST)),
            CacheRegion("mortal", policy=LRU(), ttl=2, grace=1),
        )
    )


class CacheMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.backend = MemoryBackend(self.clock)
        self.cache = Cache(config(), clock=self.clock, backend=self.backend, weigher=weigh)
        self.model = Model(
            [
                ModelRegion("default", grace=GRACE),
                ModelRegion("fifo", "fifo", max_items=3),
                ModelRegion("lru", "lru", max_items=3, grace=GRACE),
                ModelRegion("lfu", "lfu", max_items=3),
                ModelRegion("graced", grace=GRACE),
                ModelRegion("heavy", max_weight=HEAVIEST),
                ModelRegion("mortal", ttl=2, grace=1),
            ],
            self.clock.now(),
        )
        self.last_version = 0

    @initialize(
        names=st.lists(st.sampled_from(REGIONS), min_size=2, max_size=2), ttl=ttls, tags=tags
    )
    def choose_regions(self, names, ttl, tags):
        """A sequence is about two regions, mostly the first, so that its steps meet."""
        self.names = names
        for key in KEYS:
            self.set(0, key, 1, ttl, True, tags, "")

    def teardown(self) -> None:
        try:
            self.statistics()
        finally:
            self.run(self.cache.aclose())
            self.runner.close()

    def run(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.runner.run(wait())

    def pick(self, which: int) -> tuple[Region[Any], ModelRegion]:
        name = self.names[which]
        region = self.cache if name == "default" else self.cache.region(name)
        return region, self.model.regions[name]

    def deadline(self, model: ModelRegion, ttl: float | None, given: bool = True) -> float:
        seconds = ttl if given else model.ttl
        return math.inf if seconds is None else self.model.now + seconds

    def table(self, model: ModelRegion) -> Table:
        table = self.backend.table(model.name)
        assert table is not None
        return table

    def learn_version(self, model: ModelRegion, *written: str) -> None:
        """Versions only grow, and each write has one of its own."""
        before, kept = self.last_version, [key for key in written if key in model.entries]
        self.learn_versions(model)
        versions = {model.entries[key].version for key in kept}
        assert len(versions) == len(set(kept))
        assert all(version > before for version in versions)

    def learn_versions(self, model: ModelRegion) -> None:
        for key, kept in model.entries.items():
            record = self.table(model).peek(key, self.clock.now())
            if record is not None:
                kept.version = record.version
                self.last_version = max(self.last_version, record.version)

    # -- writing

    @rule(which=regions, key=keys, value=values, ttl=ttls, given=st.booleans(), tags=tags,
          mode=st.sampled_from(["", "nx", "xx", "keep_ttl"]))  # fmt: skip
    def set(self, which, key, value, ttl, given, tags, mode):
        region, model = self.pick(which)
        given = given and mode != "keep_ttl"
        options: dict[str, Any] = {"ttl": ttl} if given else {}
        options |= {mode: True} if mode else {}
        old = self.model.alive(model, key)
        deadline = self.deadline(model, ttl, given)
        if mode == "keep_ttl" and old is not None:
            deadline = old.deadline
        try:
            stored = self.run(region.set(key, value, tags=tags, **options))
        except EntryTooLarge:
            self.refuse(model, value)
            return
        self.model.check_weight(model, self.model.weigh(model, value))
        allowed = old is None if mode == "nx" else old is not None if mode == "xx" else True
        assert stored == allowed
        if stored:
            self.model.store(model, key, value, deadline, tags)
            self.learn_version(model, key)

    def refuse(self, model: ModelRegion, value: object) -> None:
        """The cache found ``value`` too large: so must the model."""
        try:
            self.model.check_weight(model, self.model.weigh(model, value))
        except TooLarge:
            return
        raise AssertionError(f"{value!r} was refused")

    @rule(which=regions, mapping=st.dictionaries(keys, st.integers(), max_size=4), ttl=ttls,
          nx=st.booleans(), tags=tags)  # fmt: skip
    def set_many(self, which, mapping, ttl, nx, tags):
        region, model = self.pick(which)
        stored = self.run(region.set_many(mapping, ttl=ttl, nx=nx, tags=tags))
        expected = 0
        for key, value in mapping.items():
            if not nx or self.model.alive(model, key) is None:
                expected += 1
                self.model.store(model, key, value, self.deadline(model, ttl), tags)
        assert stored == expected
        self.learn_version(model, *mapping) if stored == len(mapping) else self.learn_versions(
            model
        )

    @rule(which=regions, key=keys, delta=st.sampled_from([1, -5, 0, LAST]),
          initial=st.sampled_from([0, 7]), ttl=ttls)  # fmt: skip
    def increment(self, which, key, delta, initial, ttl):
        region, model = self.pick(which)
        old = self.model.alive(model, key)
        start = initial if old is None else old.value
        try:
            total = self.run(region.increment(key, delta, initial=initial, ttl=ttl))
        except TypeMismatch:
            assert type(start) is not int
            return
        except InvalidArgument:
            assert type(start) is int
            assert abs(start + delta) > LAST
            return
        assert type(start) is int
        assert total == start + delta
        if old is None:
            self.model.store(model, key, total, self.deadline(model, ttl), ())
        else:
            weight = self.model.weigh(model, total)
            self.model.make_room(model, 0, weight - old.weight, spare=key)
            old.value, old.weight = total, weight
            model.counts["sets"] += 1
            model.order.touch(key)
        self.learn_version(model, key)

    @rule(which=regions, key=keys, ttl=ttls, hits=st.lists(keys, max_size=3))
    def touch(self, which, key, ttl, hits):
        for hit in hits:
            self.get(which, hit)
        region, model = self.pick(which)
        kept = self.model.alive(model, key)
        assert self.run(region.touch(key, ttl)) == (kept is not None)
        if kept is not None:
            kept.deadline = self.deadline(model, ttl)
            model.order.touch(key)

    @rule(which=regions, key=keys, invalidate=st.booleans())
    def remove(self, which, key, invalidate):
        region, model = self.pick(which)
        expected = self.model.remove(model, key, "invalidations" if invalidate else "deletes")
        removed = self.run(region.invalidate(key) if invalidate else region.delete(key))
        assert removed == expected

    @rule(which=regions, some=st.lists(keys, max_size=4))
    def delete_many(self, which, some):
        region, model = self.pick(which)
        expected = sum([self.model.remove(model, key, "deletes") for key in some])
        assert self.run(region.delete_many(some)) == expected

    @rule(which=regions, changes=st.lists(st.tuples(keys, st.none() | values), max_size=5))
    def batch(self, which, changes):
        region, model = self.pick(which)
        batch = region.batch()
        expected: list[bool | None] = []
        for key, value in changes:
            if value is None:
                batch.delete(key)
                expected.append(self.model.remove(model, key, "deletes"))
            else:
                batch.set(key, value)
                try:
                    self.model.store(model, key, value, self.deadline(model, None, False), ())
                    expected.append(True)
                except TooLarge:
                    expected.append(None)
        failing = {key for (key, _), done in zip(changes, expected, strict=True) if done is None}
        try:
            assert self.run(batch.execute()) == expected
        except BatchError as error:
            failed = set(error.failed)
            assert failed == failing
        except EntryTooLarge:
            assert expected == [None]
        self.learn_versions(model)

    @rule(
        which=regions,
        checks=st.dictionaries(keys, st.sampled_from(["value", "version", "absent", "wrong"])),
        changes=st.dictionaries(keys, st.none() | st.integers(), max_size=3),
        ttl=ttls,
        tags=tags,
    )
    def atomic(self, which, checks, changes, ttl, tags):
        region, model = self.pick(which)
        atomic = region.atomic()
        holds = True
        by_value: list[str] = []
        for key, kind in checks.items():
            kept = self.model.alive(model, key)
            if kind == "absent":
                atomic.check_absent(key)
                holds &= kept is None
            elif kind == "version" and kept is not None:
                atomic.check_version(key, kept.version)
            elif kind == "wrong":
                atomic.check_version(key, self.last_version + 1)
                holds = False
            else:
                atomic.check(key, "unheard of" if kept is None else kept.value)
                by_value.append(key)
                holds &= kept is not None
        for key, value in changes.items():
            atomic.delete(key) if value is None else atomic.set(key, value, ttl=ttl, tags=tags)
        for key in by_value:
            self.model.read(model, key)
        assert self.run(atomic.execute()) == holds
        if not holds:
            return
        for key in [key for key, value in changes.items() if value is None]:
            self.model.remove(model, key, "deletes")
        written = [key for key, value in changes.items() if value is not None]
        for key in written:
            self.model.store(model, key, changes[key], self.deadline(model, ttl), tags)
        self.learn_versions(model)

    # -- reading

    @rule(
        which=regions,
        wait=st.sampled_from([0, 0.25, 1, 2.5]),
        reads=st.lists(
            st.tuples(st.sampled_from(["get", "get", "lookup", "stale", "exists"]), keys),
            min_size=1,
            max_size=8,
        ),
    )
    def read(self, which, wait, reads):
        self.advance(wait)
        for how, key in reads:
            if how == "get":
                self.get(which, key)
            elif how == "exists":
                self.exists(which, key)
            else:
                self.lookup(which, key, how == "stale")

    def get(self, which, key):
        region, model = self.pick(which)
        kept = self.model.hit(model, key) or self.model.read(model, key)
        found = self.run(region.get(key, "no value"))
        expected = "no value" if kept is None else kept.value
        assert (type(found), found) == (type(expected), expected)

    def lookup(self, which, key, allow_stale):
        region, model = self.pick(which)
        kept = self.model.read(model, key, allow_stale)
        found = self.run(region.lookup(key, options=GetOptions(allow_stale=allow_stale)))
        if kept is None:
            assert found == Miss()
            return
        assert not isinstance(found, Miss)
        assert (found.value, found.version) == (kept.value, kept.version)
        assert found.tags == tuple(kept.tags)
        self.check_time(found, kept)

    def check_time(self, found: Hit[Any] | Stale[Any], kept: Kept) -> None:
        left = kept.deadline - self.model.now
        if isinstance(found, Stale):
            assert found.expired_for == -left >= 0
        else:
            assert found.expires_in == (None if left == math.inf else left)

    @rule(which=regions, some=st.lists(keys, max_size=5), allow_stale=st.booleans())
    def get_many(self, which, some, allow_stale):
        region, model = self.pick(which)
        read = {key: self.model.read(model, key, allow_stale) for key in dict.fromkeys(some)}
        found = self.run(region.get_many(some, options=GetOptions(allow_stale=allow_stale)))
        assert found == {key: kept.value for key, kept in read.items() if kept is not None}

    def exists(self, which, key):
        region, model = self.pick(which)
        assert self.run(region.exists(key)) == (self.model.alive(model, key) is not None)

    @rule(which=regions, glob=st.sampled_from(GLOBS), batch_size=st.integers(1, 5))
    def scan(self, which, glob, batch_size):
        region, model = self.pick(which)

        async def collect() -> list[str]:
            return [key async for key in region.scan(glob, batch_size=batch_size)]

        expected = [key for key in self.model.alive_keys(model) if matcher(glob)(key)]
        assert sorted(self.run(collect())) == expected

    # -- loading

    @rule(which=regions, key=keys, value=values, ttl=ttls, tags=tags, many=st.booleans())
    def load(self, which, key, value, ttl, tags, many):
        region, model = self.pick(which)
        kept = None if many else self.model.hit(model, key)
        kept = kept or self.model.read(model, key)
        if many:
            loading = region.get_or_load_many([key], lambda _: {key: value}, ttl=ttl, tags=tags)
            found = self.run(loading)[key]
        else:
            found = self.run(region.get_or_load(key, lambda: value, ttl=ttl, tags=tags))
        expected = value if kept is None else kept.value
        assert (type(found), found) == (type(expected), expected)
        if kept is None:
            model.counts["loads"] += 1
            try:
                self.model.store(model, key, value, self.deadline(model, ttl), tags)
            except TooLarge:
                model.counts["lost_fills"] += 1
            self.learn_version(model, *([key] if key in model.entries else []))

    @rule(which=regions, key=keys, how=st.sampled_from(["delete", "set", "tag", "clear", "fail"]))
    def race(self, which, key, how):
        """Something happens to a key while it is loaded: the load must store nothing."""
        region, model = self.pick(which)
        if self.model.alive(model, key) is not None:
            return

        async def load() -> str:
            if how == "delete":
                await region.delete(key)
            elif how == "set":
                await region.set(key, 1)
            elif how == "tag":
                await self.cache.invalidate_tag("race")
            elif how == "clear":
                await region.clear()
            else:
                raise ZeroDivisionError
            return "late"

        self.model.read(model, key)
        try:
            assert self.run(region.get_or_load(key, load, tags=("race",))) == "late"
            model.counts["lost_fills"] += 1
        except ZeroDivisionError:
            assert how == "fail"
            model.counts["load_failures"] += 1
        model.counts["loads"] += 1
        if how == "delete":
            self.model.remove(model, key, "deletes")
        elif how == "set":
            self.model.store(model, key, 1, self.deadline(model, None, False), ())
            self.learn_version(model, key)
        elif how == "clear":
            self.model_clear(model.name)

    # -- the rest of the world

    @rule(tag=st.sampled_from(["t", "u", "v", "unknown"]))
    def invalidate_tag(self, tag):
        assert self.run(self.cache.invalidate_tag(tag)) == self.model.tags_in_use()[tag]
        self.model.generations[tag] += 1

    @rule(which=regions)
    def clear(self, which):
        region, model = self.pick(which)
        assert self.run(region.clear()) == self.model_clear(model.name)

    def model_clear(self, name: str) -> int:
        """The cache's own ``clear`` is that of every region."""
        names = REGIONS if name == "default" else [name]
        return sum([self.model.clear(self.model.regions[name]) for name in names])

    @rule(seconds=steps)
    def advance(self, seconds):
        self.clock.advance(seconds)
        self.model.advance(seconds)
        while self.backend.sweep():
            pass

    @rule(policy=st.sampled_from(["fifo", "lru"]))
    def configure(self, policy):
        """Settings change, contents stay."""
        changed = FIFO(max_items=50) if policy == "fifo" else LRU(max_items=50)
        self.run(self.cache.configure_regions([CacheRegion("graced", grace=GRACE, policy=changed)]))
        self.model.regions["graced"].use_policy(policy)

    # -- what is seen from outside

    @rule()
    def statistics(self):
        """Not after every step: looking brings order and counters up to date with the hits."""
        stats = self.run(self.cache.get_statistics())
        assert stats.tags == len(self.model.tags_in_use())
        for name, model in self.model.regions.items():
            seen = stats.regions[name]
            assert (seen.items, seen.weight) == (len(model.entries), model.weight), name
            for field in (*COUNTED, "loads", "load_failures", "lost_fills"):
                assert getattr(seen, field) == model.counts[field], f"{field} of {name}"
            assert [entry.key for entry in self.table(model)._residents.policy.ordered()] == (
                model.order.ordered()
            )

    # -- after every step

    @invariant()
    def structure_is_sound(self):
        validate_backend(self.backend)

    @invariant()
    def contents_are_those_of_the_model(self):
        for name, model in self.model.regions.items():
            for key in KEYS:
                record = self.table(model).peek(key, self.clock.now(), stale=True)
                kept = self.model.stale(model, key)
                assert (record is None) == (kept is None), f"{key!r} in {name}"
                if record is not None and kept is not None:
                    assert (record.value, record.version) == (kept.value, kept.version)
                    assert record.tags == tuple(kept.tags)
                    left = kept.deadline - self.model.now
                    assert record.expires_in == (None if left == math.inf else left)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(
    max_examples=times(40),
    stateful_step_count=50,
    deadline=None,
    report_multiple_bugs=False,
    phases=[phase for phase in Phase if EFFORT > 1 or phase is not Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
