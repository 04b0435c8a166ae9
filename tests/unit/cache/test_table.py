"""The table by itself: order, memory, threads. What it owes its callers is in tests/conformance."""

import gc
import random
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import count

import pytest
from tests.builds import needs_pure

from clusterdb.cache import table as table_module
from clusterdb.cache.entries import Entry
from clusterdb.cache.errors import EntryTooLarge
from clusterdb.cache.guard import TableLock
from clusterdb.cache.policy import POLICIES, Lirs
from clusterdb.cache.table import Removal, Table
from clusterdb.cache.tags import TagStates
from clusterdb.cache.testing import BrokenStructure, validate_table
from clusterdb.cache.types import FOREVER, MISSING, RemovalCause

NOW = 1000.0


def make_table(
    policy: str = "lru",
    max_items: int | None = None,
    max_weight: int | None = None,
    grace: float = 0.0,
) -> Table:
    table = Table(
        lock=TableLock(),
        tags=TagStates(),
        versions=count(1),
        policy=POLICIES[policy](),
        now=NOW,
    )
    table.configure(POLICIES[policy](), max_items, max_weight, grace)
    return table


def put(table: Table, key: str, value: object = None, **options) -> int:
    settings = {"deadline": FOREVER, "weight": 1, "now": NOW} | options
    return table.put(key, value, **settings)


def swap(table: Table, key: str) -> None:
    record = table.peek(key, NOW)
    seen = 0 if record is None else record.version
    assert table.swap(key, seen, 1, deadline=FOREVER, weight=2, now=NOW)


class Value:
    """Something that can be watched."""


# -- the read buffer


def test_hits_are_exact_after_a_drain():
    table = make_table()
    put(table, "k", "v")
    for _ in range(1001):
        assert table.get("k", NOW) == "v"
    for _ in range(7):
        assert table.get("none", NOW) is MISSING

    assert (table.counters.hits, table.counters.misses) == (1001, 0)
    assert table._touched == []


def test_the_read_buffer_is_bounded():
    table = make_table()
    put(table, "k", "v")
    longest = 0
    for _ in range(1000):
        table.get("k", NOW)
        longest = max(longest, len(table._touched))

    assert longest < table_module._BATCH


@pytest.mark.parametrize("change", ["touch", "swap", "read", "put"])
def test_what_changes_the_order_comes_after_the_hits_before_it(change):
    table = make_table(max_items=3)
    for key in ("a", "b", "c"):
        put(table, key, 0)
    table.get("a", NOW)
    table.get("b", NOW)
    if change == "touch":
        table.touch("c", FOREVER, NOW)
    elif change == "swap":
        swap(table, "c")
    elif change == "read":
        table.read("c", NOW)
    else:
        put(table, "c", 0)
    table.drain()

    assert [entry.key for entry in table._residents.policy.ordered()] == ["a", "b", "c"]


# -- memory


@pytest.mark.parametrize("how", ["remove", "overwrite", "clear", "expire", "evict", "commit"])
def test_what_left_is_not_kept_alive(how):
    table = make_table(max_items=1)
    value = Value()
    alive = weakref.ref(value)
    put(table, "k", value, deadline=NOW + 1)
    table.get("k", NOW)
    del value
    if how == "remove":
        table.remove("k", RemovalCause.DELETED, NOW)
    elif how == "overwrite":
        put(table, "k", 1)
    elif how == "clear":
        table.clear()
    elif how == "expire":
        table.sweep(NOW + 3, 10)
    elif how == "evict":
        put(table, "other", 1)
    else:
        table.commit([], [], ["k"], NOW)
    gc.collect()

    assert alive() is None
    validate_table(table)


class Finalized:
    """Says whether the table was locked when it died."""

    def __init__(self, table: Table, seen: list[bool]) -> None:
        self.table, self.seen = table, seen

    def __del__(self) -> None:
        self.seen.append(self.table._guard.lock.locked())


@pytest.mark.parametrize("read_before", [False, True])
@pytest.mark.parametrize("how", ["remove", "overwrite", "clear", "expire", "evict"])
def test_no_finalizer_runs_under_the_lock(how, read_before):
    table = make_table(max_items=1)
    seen: list[bool] = []
    put(table, "k", Finalized(table, seen), deadline=NOW + 1)
    if read_before:
        table.get("k", NOW)
    if how == "remove":
        table.remove("k", RemovalCause.DELETED, NOW)
    elif how == "overwrite":
        put(table, "k", 1)
    elif how == "clear":
        table.clear()
    elif how == "expire":
        table.sweep(NOW + 3, 10)
    else:
        put(table, "other", 1)
    table.drain()
    gc.collect()

    assert seen == [False]


def begin_to_look_for_the_dead(table: Table, entries: int) -> None:
    """End the tag of half of ``entries``, and let the table look at a few of them."""
    for number in range(entries):
        put(table, f"other{number}", tags=("t",) if number % 2 else ())
    with table._guard:
        table._tags.invalidate("t")
    table.sweep(NOW, 3)


def test_a_look_for_the_dead_keeps_nothing_alive():
    table, value = make_table(), Value()
    alive = weakref.ref(value)
    put(table, "k", value)
    del value
    begin_to_look_for_the_dead(table, 100)
    table.remove("k", RemovalCause.DELETED, NOW)
    gc.collect()

    assert alive() is None


def test_a_look_for_the_dead_runs_no_finalizer_under_the_lock():
    table, seen = make_table(), list[bool]()
    put(table, "k", Finalized(table, seen))
    begin_to_look_for_the_dead(table, 100)
    table.remove("k", RemovalCause.DELETED, NOW)
    while table.sweep(NOW, 40):
        gc.collect()

    assert seen == [False]


@pytest.mark.parametrize("entries", [5, 100, 5000])
def test_dead_entries_are_given_back_by_sweeps_and_by_writes(entries):
    table = make_table()
    begin_to_look_for_the_dead(table, entries)
    while table.sweep(NOW, 1000):
        pass

    assert len(table) == entries - entries // 2
    assert table.counters.invalidations == entries // 2
    validate_table(table)


def test_dead_entries_go_before_live_ones():
    table = make_table(max_items=10)
    for number in range(10):
        put(table, str(number), tags=("t",) if number >= 5 else ())
    with table._guard:
        table._tags.invalidate("t")
    for number in range(5):
        put(table, f"new{number}")

    assert sorted(table.keys()) == sorted([*"01234", *[f"new{number}" for number in range(5)]])
    assert table.counters.evictions == 0


def test_a_hundred_thousand_of_one_second_are_given_back_a_few_at_a_time():
    table = make_table()
    for number in range(100_000):
        put(table, str(number), deadline=NOW + 10.5)
    steps = 0
    while len(table):
        before = len(table)
        assert table.sweep(NOW + 12, 1000) == before - len(table) <= 1000
        steps += 1

    assert steps == 100
    assert table.counters.expirations == 100_000
    assert table.weight == 0
    validate_table(table)


def test_each_write_gives_back_a_few():
    table = make_table()
    for number in range(1000):
        put(table, str(number), deadline=NOW + 1)
    for number in range(100):
        put(table, f"new{number}", now=NOW + 3)

    assert len(table) == 100
    validate_table(table)


# -- limits


def test_limits_hold_after_every_step():
    chance = random.Random(7)
    table = make_table("lfu", max_items=20, max_weight=100)
    for _ in range(5000):
        key = str(chance.randrange(60))
        step = chance.random()
        if step < 0.5:
            try:
                put(table, key, weight=chance.choice([1, 3, 10, 100, 101, 2**62, 2**63]))
            except EntryTooLarge as error:
                refused = error
                assert refused.weight > refused.limit == 100
        elif step < 0.8:
            table.get(key, NOW)
        elif step < 0.9:
            table.remove(key, RemovalCause.DELETED, NOW)
        else:
            swap(table, key + "n")
        assert len(table) <= 20
        assert table.weight <= 100
    validate_table(table)


def test_weights_beyond_64_bits_add_up():
    table = make_table(max_weight=2**70)
    for number in range(10):
        put(table, str(number), weight=2**62)

    assert table.weight == 10 * 2**62
    validate_table(table)


def test_keys_of_one_hash_are_told_apart():
    class SameHash(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

    table = make_table(max_items=50)
    keys = [SameHash(number) for number in range(100)]
    for key in keys:
        put(table, key, str(key))

    assert [table.get(key, NOW) for key in keys[50:]] == [str(key) for key in keys[50:]]
    assert [table.get(key, NOW) for key in keys[:50]] == [MISSING] * 50


# -- threads


@pytest.fixture
def nervous_threads():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Worker(threading.Thread):
    """Does a seeded mix of everything and counts its own reads."""

    def __init__(self, table: Table, tags: TagStates, seed: int) -> None:
        super().__init__()
        self.table, self.tags, self.chance = table, tags, random.Random(seed)
        self.reads = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            for step in range(2500):
                self.step(step)
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.error = error

    def step(self, number: int) -> None:
        table, now = self.table, NOW + number / 100
        key = str(self.chance.randrange(80))
        choice = self.chance.random()
        if choice < 0.6:
            self.reads += 1
            value = table.get(key, now)
            if value is MISSING:
                record = table.read(key, now)
                value = record.value if record is not None else key
            assert value == key
        elif choice < 0.8:
            tags = ("t",) if self.chance.random() < 0.3 else ()
            deadline = self.chance.choice([FOREVER, now + 0.5, now + 3])
            put(table, key, key, tags=tags, deadline=deadline, now=now)
        elif choice < 0.9:
            table.remove(key, RemovalCause.DELETED, now)
        elif choice < 0.93:
            with table._guard:
                self.tags.invalidate("t")
        elif choice < 0.96:
            claim = table.claim(key, ("t",), now)
            if claim is not None and not hasattr(claim, "value"):
                table.fill(claim, key, FOREVER, 1, now)
        else:
            table.sweep(now, 5)
            table.removals()


@pytest.mark.parametrize("after", POLICIES)
@pytest.mark.parametrize("before", ["lru", "adaptive", "arc", "lirs"])
def test_a_policy_that_is_changed_keeps_what_is_there(before, after):
    table = make_table(before, max_items=50)
    for number in range(80):
        put(table, str(number % 60), weight=0)
        table.get(str(number % 7), NOW)
    there = set(table.keys())
    table.configure(POLICIES[after](), 50, None, 0.0)

    assert set(table.keys()) == there
    validate_table(table)
    for number in range(100, 200):
        put(table, str(number), weight=0)
    assert len(table) == 50
    validate_table(table)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_limit_that_moves_is_kept_and_never_evicts_more_than_it_may(policy):
    table = make_table(policy, max_weight=100)
    for number in range(100):
        put(table, str(number), weight=1)
    assert table.limit(60, 15) == 85
    assert len(table) == 85
    with pytest.raises(EntryTooLarge):
        put(table, "large", weight=61)
    assert table.limit(60, 100) == 60
    validate_table(table)
    assert table.limit(80, 0) == 80
    for number in range(200, 300):
        put(table, str(number), weight=1)
    assert table.weight == 80
    validate_table(table)


@pytest.mark.parametrize("policy", POLICIES)
def test_threads_break_nothing_and_every_read_is_counted(policy, nervous_threads):
    tags = TagStates()
    table = Table(
        lock=TableLock(), tags=tags, versions=count(1), policy=POLICIES[policy](), now=NOW
    )
    table.configure(POLICIES[policy](), 40, 60, 0.5)
    table.record_removals(True)
    workers = [Worker(table, tags, seed) for seed in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.error for worker in workers] == [None] * 8
    counters = table.counters
    assert counters.hits + counters.misses == sum([worker.reads for worker in workers])
    validate_table(table)


def test_threads_lose_no_hit_and_no_sum(nervous_threads):
    table = make_table()
    put(table, "k", "v")

    def add_one():
        while True:
            record = table.peek("n", NOW)
            seen, value = (0, 0) if record is None else (record.version, record.value)
            if table.swap("n", seen, value + 1, deadline=FOREVER, weight=2, now=NOW):
                return

    def work():
        for _ in range(3000):
            table.get("k", NOW)
            add_one()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert table.counters.hits == 24_000
    assert table.get("n", NOW) == 24_000
    validate_table(table)


class Between:
    """A guard that lets something happen just before it is taken for the first time."""

    def __init__(self, table: Table, happens: Callable[[], object]) -> None:
        self.table, self.guard, self.happens = table, table._guard, happens

    def __enter__(self) -> None:
        self.table._guard = self.guard
        self.happens()
        self.guard.__enter__()

    def __exit__(self, *error: object) -> None:
        self.guard.__exit__(*error)


def interpose(table: Table, happens: Callable[[], object]) -> None:
    table._guard = Between(table, happens)  # type: ignore[assignment]


@needs_pure
def test_two_threads_are_not_told_of_the_same_removal():
    table = make_table(max_items=1)
    table.record_removals(True)
    put(table, "a")
    put(table, "b")
    other: list[Removal] = []
    interpose(table, lambda: other.extend(table.removals()))
    mine = table.removals()

    assert [key for key, _, _ in [*other, *mine]] == ["a"]


@needs_pure
def test_recording_that_was_ended_by_another_thread_stays_ended():
    table = make_table(max_items=1)
    table.record_removals(True)
    put(table, "a")
    put(table, "b")
    interpose(table, lambda: table.record_removals(False))
    table.removals()
    put(table, "c")

    assert table.removals() == []


class Meanwhile:
    """A tag state that lets something happen when a hit looks at it."""

    name = "t"
    uses = 2

    def __init__(self, happens: Callable[[], object]) -> None:
        self.todo = [happens]

    @property
    def live(self) -> bool:
        if self.todo:
            self.todo.pop()()
        return True


@needs_pure
def test_a_hit_that_comes_late_runs_no_finalizer_under_the_lock():
    table, seen = make_table(), list[bool]()
    put(table, "k", Finalized(table, seen))
    state = Meanwhile(lambda: table.remove("k", RemovalCause.DELETED, NOW))
    table._entries["k"].tags = (state,)  # type: ignore[assignment]
    assert table.get("k", NOW) is not MISSING
    assert len(table) == 0
    table.drain()
    gc.collect()

    assert seen == [False]
    assert table.counters.hits == 1


# -- the validator


def unlink(table: Table) -> None:
    table._residents.policy.remove(table._entries["b"])


def link_twice(table: Table) -> None:
    table._residents.policy.insert(table._entries["b"])


def break_link(table: Table) -> None:
    policy, entry = table._residents.policy, table._entries["b"]
    if isinstance(policy, Lirs):
        policy._stack["b"] = None  # its links, but for a few, are a dictionary
    entry.prev = None


def lose_timer(table: Table) -> None:
    table._residents._wheel.remove(table._entries["b"])


def file_late(table: Table) -> None:
    table._entries["b"].deadline -= 5


def file_early(table: Table) -> None:
    table._entries["b"].deadline += 5


def stray_timer(table: Table) -> None:
    stray = Entry("stray", None)
    table._residents._wheel.add(stray, NOW + 5)


def wrong_weight(table: Table) -> None:
    table._residents.weight += 1


def wrong_key(table: Table) -> None:
    table._entries["x"] = table._entries.pop("b")


def too_many(table: Table) -> None:
    table._residents.max_items = 2


def wrong_place(table: Table) -> None:
    table._entries["b"].place += 1


DAMAGE = [
    unlink,
    link_twice,
    break_link,
    lose_timer,
    file_late,
    file_early,
    stray_timer,
    wrong_weight,
    wrong_key,
    too_many,
    wrong_place,
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_validator_finds_damage(policy, damage):
    table = make_table(policy, max_items=10)
    for key in ("a", "b", "c"):
        put(table, key, deadline=NOW + 20)
    validate_table(table)
    damage(table)

    with pytest.raises(BrokenStructure):
        validate_table(table)
