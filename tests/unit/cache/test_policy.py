"""The policies evict, request for request, what their naive twins would."""

import gzip
from array import array
from importlib import resources
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.effort import times
from tests.stateful.naive import NAIVE

from clusterdb.cache.entries import Entry
from clusterdb.cache.guard import Guard, TableLock
from clusterdb.cache.policy import POLICIES, Adaptive, LinkedList, Lru, RecentLru, Reporting
from clusterdb.cache.policy.adaptive import PLANS
from clusterdb.cache.policy.handover import Handover
from clusterdb.cache.policy.segmented import HASH
from clusterdb.cache.policy.shadows import OUT, Shadows
from clusterdb.cache.table import Table, ordered
from clusterdb.cache.tags import TagStates
from clusterdb.cache.testing import validate_table
from clusterdb.cache.testing.validate import validate_shadows
from clusterdb.cache.types import FOREVER, MISSING, RemovalCause

TRACE = resources.files("clusterdb.cache") / "data" / "orm-busy-200k.u32.gz"

KEYS = st.sampled_from([f"key{number}" for number in range(14)])

requests = st.lists(
    st.tuples(st.sampled_from(["use", "remove", "evict"]), st.integers(0, 8)), max_size=120
)


def limited_table(policy: str, max_items: int | None, max_weight: int | None = None) -> Table:
    table = Table(
        lock=TableLock(),
        tags=TagStates(),
        versions=count(1),
        policy=POLICIES[policy](),
        now=0.0,
    )
    table.configure(POLICIES[policy](), max_items, max_weight, 0.0)
    return table


def put(table: Table, key: str, weight: int = 0) -> None:
    table.put(key, key, deadline=FOREVER, weight=weight, now=0.0)


@pytest.mark.parametrize("name", NAIVE)
@given(requests=requests)
def test_a_policy_equals_its_naive_twin(name, requests):
    policy, naive = POLICIES[name](), NAIVE[name]()
    entries: dict[int, Entry] = {}
    for request, key in requests:
        if request == "evict":
            victim = policy.victim()
            assert (victim is None) == (not entries)
            key = -1 if victim is None else int(victim.key)  # noqa: PLW2901 - as if it was asked for
        if request == "use" and key not in entries:
            entries[key] = Entry(str(key), None)
            policy.insert(entries[key])
            naive.insert(key)
        elif request == "use":
            policy.touch(entries[key])
            naive.touch(key)
        elif key in entries and request == "evict":
            policy.evict(entries.pop(key))
            naive.evict(key)
        elif key in entries:
            policy.remove(entries.pop(key))
            naive.remove(key)
        assert [int(found.key) for found in policy.ordered()] == naive.ordered()


@pytest.mark.parametrize("name", NAIVE)
@pytest.mark.parametrize("capacity", [1, 50, 700])
def test_a_table_hits_on_a_real_trace_when_the_naive_twin_does(name, capacity):
    requests = array("I", gzip.decompress(TRACE.read_bytes()))[: 6_000 if name == "lfu" else 20_000]
    table, naive = limited_table(name, capacity), NAIVE[name]()
    resident: set[Any] = set()
    differ = 0
    for request in requests:
        key = str(request)
        hit = table.get(key, 0.0) is not MISSING
        differ += hit != (key in resident)
        if key in resident:
            naive.touch(key)
        else:
            if len(resident) == capacity:
                victim = naive.ordered()[0]
                naive.evict(victim)
                resident.remove(victim)
            naive.insert(key)
            resident.add(key)
        if not hit:
            put(table, key)

    assert differ == 0
    validate_table(table)


class Operations(RuleBasedStateMachine):
    """Anything that a table can do, checked from inside after every step."""

    name = "lru"

    def __init__(self):
        super().__init__()
        self.tags = TagStates()
        self.lock = TableLock()
        self.table = Table(
            lock=self.lock, tags=self.tags, versions=count(1), policy=POLICIES[self.name](), now=0.0
        )
        self.now = 0.0
        self.weighed = False
        self.table.configure(POLICIES[self.name](), 6, None, 0.0)

    @rule(key=KEYS)
    def get(self, key):
        self.table.get(key, self.now)

    @rule(key=KEYS, weight=st.integers(1, 5), ttl=st.sampled_from([FOREVER, 1.0, 5.0]))
    def put(self, key, weight, ttl):
        weight = weight if self.weighed else 0
        self.table.put(key, key, deadline=self.now + ttl, weight=weight, now=self.now, tags=("t",))
        assert self.table.peek(key, self.now) is not None

    @rule(key=KEYS)
    def fetch(self, key):
        if self.table.get(key, self.now) is MISSING:
            self.put(key, 1, FOREVER)

    @rule(key=KEYS)
    def remove(self, key):
        self.table.remove(key, RemovalCause.DELETED, self.now)

    @rule(seconds=st.sampled_from([0.5, 3.0]))
    def wait(self, seconds):
        self.now += seconds
        self.table.sweep(self.now, 3)

    @rule()
    def end_the_tag(self):
        with Guard(self.lock):
            self.tags.invalidate("t")

    @rule(
        name=st.sampled_from(list(POLICIES)),
        items=st.sampled_from([None, 1, 2, 6, 9]),
        weight=st.sampled_from([None, 5, 12]),
    )
    def configure(self, name, items, weight):
        before = len(self.table)
        self.weighed = weight is not None
        self.table.configure(POLICIES[name](), items, weight, 0.0)
        assert len(self.table) == before or items is not None or weight is not None

    @rule()
    def clear(self):
        self.table.clear()

    @invariant()
    def whole(self):
        self.table.drain()
        validate_table(self.table)


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_breaks_the_structure_of(name):
    machine = type(f"Operations_{name}", (Operations,), {"name": name})
    run_state_machine_as_test(machine, settings=settings(max_examples=times(25)))


@pytest.mark.parametrize("name", POLICIES)
def test_an_empty_policy_has_no_victim(name):
    policy = POLICIES[name]()

    assert policy.victim() is None
    assert policy.ordered() == []


def test_a_linked_list_keeps_its_order():
    links, entries = LinkedList(), [Entry(str(number), None) for number in range(4)]
    for linked in entries:
        links.append(linked)
    links.unlink(entries[1])

    assert links.entries() == [entries[0], entries[2], entries[3]]
    assert links.first() is entries[0]
    assert (entries[1].prev, entries[1].next) == (None, None)


def test_fifo_keeps_the_place_of_an_entry_that_grows():
    table = limited_table("fifo", None, max_weight=4)
    for key in ("a", "b", "c"):
        put(table, key, 1)
    put(table, "a", 3)
    assert sorted(table.keys()) == ["a", "c"]
    put(table, "d", 1)

    assert sorted(table.keys()) == ["c", "d"]


def test_lfu_keeps_the_uses_of_an_entry_that_grows():
    table = limited_table("lfu", None, max_weight=4)
    for key in ("hot", "b", "c"):
        put(table, key, 1)
    for _ in range(9):
        table.get("hot", 0.0)
    table.get("c", 0.0)
    put(table, "hot", 3)
    assert sorted(table.keys()) == ["c", "hot"]
    put(table, "d", 1)

    assert sorted(table.keys()) == ["d", "hot"]


def test_what_was_used_is_told_once_in_order():
    policy = RecentLru()
    entries = {key: Entry(key, None) for key in "abcd"}
    for entry in entries.values():
        policy.insert(entry)
    assert policy.take() == dict.fromkeys("abcd", 1)
    policy.touch(entries["c"])
    policy.touch(entries["a"])
    policy.touch(entries["c"])
    assert list(policy.take()) == ["a", "c"]
    assert policy.take() == {}
    assert [entry.key for entry in policy.ordered()] == ["b", "d", "a", "c"]


def test_the_mark_of_what_was_used_is_never_a_victim():
    policy = RecentLru()
    entries = {key: Entry(key, None) for key in "abc"}
    assert policy.victim() is None
    for entry in entries.values():
        policy.insert(entry)
    assert policy.victim() is entries["a"]
    assert policy.victim(entries["a"]) is entries["b"]
    policy.take()
    policy.touch(entries["a"])
    for key in "bc":
        assert policy.victim() is entries[key]
        policy.remove(entries[key])
    assert policy.victim() is entries["a"]
    assert policy.victim(entries["a"]) is None


def test_uses_are_counted_where_that_is_wanted():
    policy = Reporting(Lru())
    entries = {key: Entry(key, None) for key in "ab"}
    for entry in entries.values():
        policy.insert(entry)
    for key in "abaa":
        policy.touch(entries[key])
    assert policy.take() == {"b": 1, "a": 3}
    assert policy.take() == {}


# -- a change of policy


def policies_of(table: Table) -> tuple[str, bool]:
    """The policy's name, and whether it still takes over."""
    policy = table._residents.policy
    return policy.name, isinstance(policy, Handover)


MANY = 3_000


def filled(policy: str, items: int) -> Table:
    table = limited_table(policy, items)
    for number in range(items):
        put(table, str(number))
    return table


@pytest.mark.parametrize("name", POLICIES)
def test_a_new_policy_takes_over_by_and_by(name):
    table = filled("lru" if name != "lru" else "fifo", MANY)
    table.configure(POLICIES[name](), MANY, None, 0.0)
    assert policies_of(table) == (name, True)
    assert table.sweeping
    for _ in range(10):
        validate_table(table)
        table.sweep(0.0, 200)

    assert policies_of(table) == (name, False)
    assert not table.sweeping
    assert len(table) == MANY


def test_a_small_table_obeys_its_new_policy_at_once():
    table = filled("fifo", 1000)
    table.configure(POLICIES["lru"](), 1000, None, 0.0)
    assert policies_of(table) == ("lru", False)
    table.get("0", 0.0)
    put(table, "new")

    resident = set(table.keys())
    assert "0" in resident
    assert "1" not in resident


def test_it_takes_over_in_the_old_order_whatever_happens_meanwhile():
    table = filled("lru", MANY)
    table.configure(POLICIES["fifo"](), MANY, None, 0.0)
    late = ("2000", "2500")  # used late, so they go over late
    for key in late:
        table.get(key, 0.0)
    for number in range(4):
        put(table, f"new {number}")
    while table.sweeping:
        table.sweep(0.0, 100)

    old = [str(number) for number in range(4, MANY) if str(number) not in late]
    order = [record.key for record in ordered(table, 0.0)]
    assert order == [*old, *late, *[f"new {number}" for number in range(4)]]


def test_a_policy_that_is_taken_over_itself_hands_on_what_it_has():
    table = filled("lru", 5_000)
    for name in ("lfu", "sieve", "adaptive"):
        table.configure(POLICIES[name](), 5_000, None, 0.0)
        table.sweep(0.0, 50)
        validate_table(table)
    while table.sweeping:
        table.sweep(0.0, 1000)

    assert policies_of(table) == ("adaptive", False)
    assert len(table) == 5_000


# -- the votes of the adaptive policy


def test_a_key_that_all_shadows_keep_has_no_vote_for_a_while():
    shadows = Shadows(PLANS, 64, 0)
    quiet = []
    for number in [0, 0, 0, 0, 1]:
        shadows.request(number)
        quiet.append(shadows.quiet_until - shadows.arrivals)
    assert quiet == [0, 0, 0, 1, 0]  # a window of one entry is left by the next that comes
    for number in [*range(2, 63), 0, 0]:
        shadows.request(number)

    assert shadows.arrivals == 63
    assert shadows.quiet_until == 63 + 4


def test_hits_without_a_vote_lose_no_place_in_a_shadow():
    policy = Adaptive()
    policy.resize(64)
    entries = [Entry(f"hot {number}", None) for number in range(4)]
    for entry in entries:
        policy.insert(entry)
    for number in range(2000):
        for entry in entries:
            policy.touch(entry)
        passing = Entry(f"passing {number}", None)
        policy.insert(passing)
        policy.remove(passing)

    shadows = policy._shadows
    assert shadows is not None
    validate_shadows(shadows)
    for entry in entries:
        known = shadows._keys[hash(entry.key) & HASH]
        assert all(place.home != OUT for place in known.places)
    votes = [shadow.hits for shadow in shadows._shadows]
    assert max(votes) - min(votes) < 1.0
