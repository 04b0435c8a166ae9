"""What is kept out of a table, and that it is counted by its reason."""

from itertools import count

import pytest

from clusterdb.cache.errors import EntryTooLarge, OutOfMemory
from clusterdb.cache.guard import TableLock
from clusterdb.cache.policy import POLICIES, Gate
from clusterdb.cache.table import Table
from clusterdb.cache.tags import TagStates
from clusterdb.cache.testing import validate_table
from clusterdb.cache.types import FOREVER, MISSING


def make_table(policy="lru", items=None, weight=None, *, max_entry=None, gate=None) -> Table:
    table = Table(
        lock=TableLock(), tags=TagStates(), versions=count(1), policy=POLICIES[policy](), now=0.0
    )
    table.configure(POLICIES[policy](), items, weight, 0.0, max_entry, gate)
    return table


def put(table: Table, key: str, weight: int = 0, now: float = 0.0) -> None:
    table.put(key, key, deadline=FOREVER, weight=weight, now=now)
    validate_table(table)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_doorkeeper_lets_a_key_in_that_comes_again(policy):
    table = make_table(policy, 4, gate=Gate("doorkeeper", 0, 0.0))
    for number in range(4):
        put(table, f"old{number}")  # there is room: all come in
    put(table, "new")
    assert table.peek("new", 0.0) is None
    assert table.counters.refused_by_filter == 1
    put(table, "new")

    assert table.peek("new", 0.0) is not None
    assert len(table) == 4


def test_the_frequency_filter_keeps_what_is_used_more_often():
    table = make_table("fifo", 2, gate=Gate("frequency", 0, 0.0))
    put(table, "hot")
    put(table, "warm")
    for _ in range(5):
        table.get("hot", 0.0)
    for _ in range(3):
        put(table, "cold")
    assert table.get("hot", 0.0) == "hot"
    assert table.counters.refused_by_filter == 3
    for _ in range(6):
        put(table, "cold")

    assert table.get("cold", 0.0) == "cold"


def test_an_overwrite_is_never_refused():
    table = make_table("lru", 1, gate=Gate("doorkeeper", 1, 0.0))
    put(table, "a")
    for number in range(5):
        table.put("a", number, deadline=FOREVER, weight=0, now=0.0)

    assert table.get("a", 0.0) == 4
    assert table.counters.refused_by_rate == 0


def test_new_keys_come_at_the_rate_at_most():
    table = make_table(items=1000, gate=Gate("", 10, 0.0))
    for step in range(100):  # ten seconds, twenty new keys a second
        put(table, f"a{step}", now=step / 20 * 2)
        put(table, f"b{step}", now=step / 20 * 2)

    assert table.counters.refused_by_rate == pytest.approx(90, abs=2)
    assert len(table) == 200 - table.counters.refused_by_rate


def test_an_entry_over_the_size_fails_where_nothing_else_is_weighed():
    table = make_table(items=10, max_entry=5)
    put(table, "small", 5)
    with pytest.raises(EntryTooLarge, match="weighs 6 and its region may hold 5"):
        put(table, "large", 6)

    assert table.counters.rejections == 1
    assert table.weight == 5


def test_a_large_entry_does_not_flush_the_hot_small_ones():
    table = make_table("adaptive", weight=1000)
    for number in range(1000):
        put(table, f"small{number}", 1)
    for _ in range(5):
        for number in range(1000):
            table.get(f"small{number}", 0.0)
    put(table, "large", 900)
    hot = sum(table.get(f"small{number}", 0.0) is not MISSING for number in range(1000))

    assert hot >= 990
    assert table.counters.refused_by_weight == 1
    validate_table(table)


def test_a_large_entry_takes_the_place_of_what_nobody_used():
    table = make_table("adaptive", weight=1000)
    for number in range(1000):
        put(table, f"small{number}", 1)
    put(table, "large", 500)

    assert table.get("large", 0.0) == "large"


@pytest.mark.parametrize("policy", POLICIES)
def test_expired_entries_leave_before_live_ones(policy):
    table = make_table(policy, 40)
    for number in range(20):
        put(table, f"live{number}")
    for number in range(20):
        table.put(f"dying{number}", 1, deadline=5.0, weight=0, now=0.0)
    for number in range(20):
        put(table, f"new{number}", now=10.0)

    assert table.counters.evictions == 0
    assert {f"live{number}" for number in range(20)} <= set(table.keys())


def test_short_memory_keeps_new_entries_out_then_fails():
    table = make_table(items=100)
    put(table, "a")
    table.press(None, admitting=False)
    put(table, "b")
    put(table, "a")
    assert table.keys() == ["a"]
    assert table.counters.refused_by_memory == 1
    table.press((20, 10), admitting=False)
    with pytest.raises(OutOfMemory, match="out of memory; cause: cache size exceeded") as raised:
        put(table, "a")
    assert (raised.value.used, raised.value.limit) == (20, 10)
    table.press(None, admitting=True)
    put(table, "b")

    assert len(table) == 2


def test_pressure_evicts_a_share():
    table = make_table(items=100)
    for number in range(100):
        put(table, str(number))

    assert table.press(None, admitting=False, evict=0.2) == 20
    assert table.keys() == [str(number) for number in range(20, 100)]
