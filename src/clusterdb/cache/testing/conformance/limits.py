"""Limits, eviction and who is told of it."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import EntryTooLarge, InvalidArgument
from ...protocols import Put, Written
from ...table import Removal
from ...types import MISSING, RemovalCause
from .clauses import clause
from .harness import MAIN, Harness

__all__: list[str] = []


def _length(_: str, value: object) -> int:
    return len(str(value))


@clause("limits")
async def items_are_limited(h: Harness) -> None:
    """A region never holds more than ``max_items``, and always as many as it may."""
    h.configure(max_items=5)
    for number in range(30):
        await h.put(f"k{number}", number)
        assert (await h.backend.describe()).regions[MAIN].items == min(number + 1, 5)


@clause("limits")
async def lru_evicts_what_was_used_longest_ago(h: Harness) -> None:
    """Under ``lru`` reads and overwrites keep an entry."""
    h.configure(policy="lru", max_items=3)
    await h.put_all(["a", "b", "c"])
    await h.record("a")
    await h.put("b", "again")
    await h.put("d", 1)
    assert await h.scan() == ["a", "b", "d"]
    await h.put("e", 1)
    assert await h.scan() == ["b", "d", "e"]


@clause("limits")
async def fifo_evicts_what_came_first(h: Harness) -> None:
    """Under ``fifo`` neither reads nor overwrites keep an entry."""
    h.configure(policy="fifo", max_items=3)
    await h.put_all(["a", "b", "c"])
    await h.record("a")
    await h.put("a", "again")
    await h.put("d", 1)
    assert await h.scan() == ["b", "c", "d"]


@clause("limits")
async def lfu_evicts_what_was_used_least(h: Harness) -> None:
    """Under ``lfu`` the rarest goes, among equals the one used longest ago."""
    h.configure(policy="lfu", max_items=3)
    await h.put_all(["a", "b", "c"])
    for key in ("a", "a", "a"):
        await h.record(key)
    await h.put("d", 1)
    assert await h.scan() == ["a", "c", "d"]
    for key in ("c", "c"):
        await h.record(key)
    await h.put("e", 1)
    assert await h.scan() == ["a", "c", "e"]


@clause("limits")
async def memory_is_limited(h: Harness) -> None:
    """A region never weighs more than ``max_weight``, and what was stored last is there."""
    h.configure(max_weight=20_000)
    for number, size in enumerate([2000, 2000, 5000, 1, 9000, 3000, 15_000, 1, 1]):
        value = bytes(size)
        await h.put(f"k{number % 4}", value)
        weight = (await h.backend.describe()).regions[MAIN].weight
        assert weight is not None
        assert size <= weight <= 20_000
        assert await h.value(f"k{number % 4}") == value


@clause("limits", "weighers")
async def weight_is_limited(h: Harness) -> None:
    """A weigher's sums never exceed ``max_weight``, after writes and overwrites alike."""
    h.configure(max_weight=10, weigher=_length)
    for number, size in enumerate([2, 2, 2, 1, 3, 5, 9, 4, 10, 2, 3, 5]):
        await h.put(f"k{number % 4}", "x" * size)
        weight = (await h.backend.describe()).regions[MAIN].weight
        assert weight is not None
        assert weight <= 10
        assert weight == sum([len(str(await h.value(key))) for key in await h.scan()])
        assert await h.value(f"k{number % 4}") == "x" * size


@clause("limits")
async def too_large_is_refused(h: Harness) -> None:
    """What can never fit is refused in its place; the old entry and all others stay."""
    h.configure(max_weight=2000)
    await h.put("k", "old")
    await h.put("other", "x")
    outcomes = await h.write(Put("k", "x" * 3000), Put("new", "y"))
    assert isinstance(outcomes[0], EntryTooLarge)
    assert isinstance(outcomes[1], Written)
    values = [await h.value(key) for key in ("k", "other", "new")]
    assert values == ["old", "x", "y"]


@clause("limits", "atomic")
async def a_commit_with_something_too_large_changes_nothing(h: Harness) -> None:
    """A commit that can't store one value raises, and nothing is changed."""
    h.configure(max_weight=2000)
    await h.put("k", "old")
    try:
        await h.backend.commit(MAIN, [], [Put("a", "x"), Put("k", "x" * 3000)])
    except EntryTooLarge:
        pass
    else:
        raise AssertionError("a commit took what can't fit")
    assert [await h.value(key) for key in ("a", "k")] == [MISSING, "old"]


@clause("limits", "weighers")
async def a_bad_weight_harms_one_item(h: Harness) -> None:
    """A weigher that gives no weight for one value fails that item only."""
    h.configure(max_weight=10, weigher=lambda _, value: value)
    for bad in (0, -1, 2**63, True, "1"):
        outcomes = await h.write(Put("a", 2), Put("bad", bad), Put("b", 2))
        assert isinstance(outcomes[1], InvalidArgument), f"weight {bad!r} gave {outcomes[1]!r}"
        assert await h.value("bad") is MISSING
        assert [await h.value(key) for key in ("a", "b")] == [2, 2]


@clause("limits")
async def expired_entries_give_back_their_memory(h: Harness) -> None:
    """What expired leaves without being read, once its grace is over."""
    h.configure(grace=5)
    await h.put_all([f"k{number}" for number in range(100)], ttl=2)
    await h.put("stays", 1)
    await h.advance(4)
    await h.settle()
    assert (await h.backend.describe()).regions[MAIN].items == 101
    await h.advance(5)
    await h.settle()
    assert (await h.backend.describe()).regions[MAIN].items == 1


@clause("limits")
async def lower_limits_hold_at_once(h: Harness) -> None:
    """``configure`` keeps contents, as many as fit, the most worthy ones."""
    await h.put_all(["a", "b", "c", "d"])
    await h.record("a")
    h.configure(max_items=2)
    assert await h.scan() == ["a", "d"]
    h.configure(max_items=None)
    await h.put_all(["e", "f"])
    assert await h.scan() == ["a", "d", "e", "f"]


@clause("limits")
async def a_new_policy_keeps_the_entries(h: Harness) -> None:
    """A change of policy keeps every entry, in the old policy's order."""
    h.configure(policy="lru", max_items=3)
    await h.put_all(["a", "b", "c"])
    await h.record("a")
    h.configure(policy="fifo")
    assert await h.scan() == ["a", "b", "c"]
    await h.put("d", 1)
    assert await h.scan() == ["a", "c", "d"]


@clause("limits", "weighers")
async def a_new_weight_limit_weighs_what_is_there(h: Harness) -> None:
    """A limit and a weigher set later count what was stored before."""
    await h.put_all(["aaaa", "bbbb", "cccc"])
    h.configure(max_weight=9, weigher=_length)
    assert await h.scan() == ["bbbb", "cccc"]
    assert (await h.backend.describe()).regions[MAIN].weight == 8


@clause("limits")
async def a_new_memory_limit_counts_what_is_there(h: Harness) -> None:
    """A limit set later counts what was stored before."""
    for key in ("a", "b", "c"):
        await h.put(key, bytes(5000))
    h.configure(max_weight=12_000)
    await h.settle()
    assert await h.scan() == ["b", "c"]


@clause("limits")
async def a_new_grace_counts_for_what_is_there(h: Harness) -> None:
    """A grace set later holds for entries stored before, and can be taken back."""
    await h.put("k", 1, ttl=5)
    h.configure(grace=10)
    await h.advance(6)
    await h.settle()
    assert await h.glance("k", stale=True) is not None
    h.configure(grace=0)
    await h.settle()
    assert await h.glance("k", stale=True) is None


@clause("limits")
async def observers_are_told(h: Harness) -> None:
    """An observer is told once of each entry that was evicted or expired, and of no other."""
    told: list[tuple[str, Removal]] = []

    def observer(region: str, removals: Sequence[Removal]) -> None:
        told.extend([(region, removal) for removal in removals])

    h.configure(max_items=2)
    h.backend.observe(observer)
    first = (await h.put("evicted", 1)).version
    second = (await h.put("expired", 1, ttl=2)).version
    await h.put("c", 1)
    await h.drop("c")
    await h.put("d", 1)
    await h.put("d", 2)
    await h.drop("d", RemovalCause.INVALIDATED)
    await h.advance(4)
    await h.settle()
    await h.backend.clear([MAIN])
    assert told == [
        (MAIN, ("evicted", first, RemovalCause.EVICTED)),
        (MAIN, ("expired", second, RemovalCause.EXPIRED)),
    ]


@clause("limits")
async def observers_can_leave(h: Harness) -> None:
    """After ``observe(None)`` nobody is told any more."""
    told: list[str] = []
    h.configure(max_items=1)
    h.backend.observe(lambda region, _: told.append(region))
    await h.put_all(["a", "b"])
    h.backend.observe(None)
    await h.put_all(["c", "d"])
    assert told == [MAIN]
