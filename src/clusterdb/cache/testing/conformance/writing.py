"""``write``: conditions, expiry, sums, removals and the errors of single items."""

from __future__ import annotations

import asyncio

from ...errors import CacheError, InvalidArgument, TypeMismatch
from ...protocols import Add, Drop, Put, Touch, Written
from ...types import MISSING, RemovalCause
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []

_MOST = 2**63 - 1
_LEAST = -(2**63)
_ODD_KEYS = (
    " ",
    "a b",
    "\x00",
    "a\r\nb",
    "\x7f\x1b[0m",
    "*",
    "user:[1-9]?*",
    "back\\slash",
    "{tag}x",
    "}{",
    "%s{0}",
    "ключ",
    "日本語",
    "e\u0301",
    "\u00e9",
    "\U0001f600",
    "\u202e\ufeff",
    "x" * 65_536,
    "é" * 32_768,
)


@clause()
async def versions_grow(h: Harness) -> None:
    """Each write gets a version above all before it, in whichever region."""
    versions = [
        (await h.put("a", 1)).version,
        (await h.put("b", 1)).version,
        (await h.put("a", 1, region=OTHER)).version,
        (await h.one(Add("n", 1, 0, None))).version,
        (await h.one(Add("n", 1, 0, None))).version,
        (await h.put("a", 1)).version,
    ]
    assert versions[0] > 0
    assert versions == sorted(set(versions))
    assert (await h.found("a")).version == versions[-1]
    assert (await h.found("n")).version == versions[4]


@clause()
async def versions_do_not_restart(h: Harness) -> None:
    """A key that was removed, expired or cleared gets a higher version than it had."""
    last = (await h.put("k", 1)).version
    for remove in ("drop", "expire", "clear"):
        if remove == "drop":
            await h.drop("k")
        elif remove == "expire":
            await h.put("k", 1, ttl=1)
            await h.advance(2)
        else:
            await h.backend.clear([MAIN])
        version = (await h.put("k", 1)).version
        assert version > last
        last = version


@clause()
async def an_overwrite_replaces_all(h: Harness) -> None:
    """An overwrite replaces value, tags and expiry."""
    await h.put("k", 1, ttl=10, tags=("old",))
    await h.put("k", 2, tags=("new",))
    record = await h.found("k")
    assert (record.value, record.tags, record.expires_in) == (2, ("new",), None)
    await h.put("k", 3, ttl=5)
    record = await h.found("k")
    assert (record.value, record.tags) == (3, ())
    assert h.left(record, 5)


@clause()
async def an_overwrite_outlives_the_old_expiry(h: Harness) -> None:
    """The expiry of the overwritten entry does not end the new one."""
    await h.put("forever", 1, ttl=2)
    await h.put("forever", 2)
    await h.put("longer", 1, ttl=2)
    await h.put("longer", 2, ttl=10)
    await h.put("shorter", 1, ttl=10)
    await h.put("shorter", 2, ttl=2)
    await h.advance(4)
    await h.settle()
    values = [await h.value(key) for key in ("forever", "longer", "shorter")]
    assert values == [2, 2, MISSING]


@clause()
async def absent_writes_only_where_nothing_is(h: Harness) -> None:
    """``when="absent"`` stores once; refused it gives version 0 and changes nothing."""
    first = await h.put("k", 1, ttl=20, tags=("t",), when="absent")
    assert first.applied
    assert first.version > 0
    assert await h.put("k", 2, when="absent") == Written(applied=False, version=0)
    record = await h.found("k")
    assert (record.value, record.version, record.tags) == (1, first.version, ("t",))
    assert h.left(record, 20)


@clause()
async def absent_takes_expired_for_absent(h: Harness) -> None:
    """An expired entry is absence, within its grace too."""
    h.configure(grace=10)
    await h.put("k", 1, ttl=2)
    await h.advance(3)
    assert (await h.put("k", 2, when="absent")).applied
    assert await h.value("k") == 2


@clause()
async def present_writes_only_over_something(h: Harness) -> None:
    """``when="present"`` stores only over a live entry."""
    assert await h.put("k", 1, when="present") == Written(applied=False, version=0)
    assert await h.value("k") is MISSING
    await h.put("k", 1, ttl=2)
    assert (await h.put("k", 2, ttl=2, when="present")).applied
    assert await h.value("k") == 2
    await h.advance(3)
    assert not (await h.put("k", 3, when="present")).applied
    assert await h.value("k") is MISSING


@clause()
async def present_takes_stale_for_absent(h: Harness) -> None:
    """An entry in its grace is not present."""
    h.configure(grace=10)
    await h.put("k", 1, ttl=2)
    await h.advance(3)
    assert not (await h.put("k", 2, when="present")).applied


@clause()
async def keep_ttl_keeps_the_expiry(h: Harness) -> None:
    """``keep_ttl`` keeps the expiry of a live entry, finite or not, and replaces the rest."""
    await h.put("k", 1, ttl=20, tags=("old",))
    await h.advance(5)
    await h.put("k", 2, keep_ttl=True, tags=("new",))
    record = await h.found("k")
    assert (record.value, record.tags) == (2, ("new",))
    assert h.left(record, 15)
    await h.put("forever", 1)
    await h.put("forever", 2, ttl=3, keep_ttl=True)
    assert (await h.found("forever")).expires_in is None


@clause()
async def keep_ttl_needs_a_live_entry(h: Harness) -> None:
    """Where nothing lives ``keep_ttl`` uses the TTL that was given."""
    h.configure(grace=10)
    await h.put("new", 1, ttl=7, keep_ttl=True)
    await h.put("old", 1, ttl=2)
    await h.advance(3)
    await h.put("old", 2, ttl=7, keep_ttl=True)
    assert h.left(await h.found("new"), 4)
    assert h.left(await h.found("old"), 7)


@clause()
async def changes_are_made_in_order(h: Harness) -> None:
    """One call's changes are made in order, and answered in order."""
    outcomes = await h.write(
        Put("k", 1),
        Put("k", 2),
        Put("k", 3, when="absent"),
        Drop("k"),
        Drop("k"),
        Put("k", 4, when="absent"),
        Add("k", 5, 0, None),
    )
    applied = [isinstance(outcome, Written) and outcome.applied for outcome in outcomes]
    assert applied == [True, True, False, True, False, True, True]
    assert await h.value("k") == 9
    assert await h.write() == []


@clause()
async def a_drop_removes_what_lives(h: Harness) -> None:
    """A Drop is applied where a live entry was, for either cause, and has no version."""
    await h.put_all(["a", "b"])
    assert await h.one(Drop("a")) == Written(applied=True, version=0)
    assert await h.drop("b", RemovalCause.INVALIDATED)
    for key in ("a", "b", "never"):
        assert await h.value(key) is MISSING
        assert await h.one(Drop(key)) == Written(applied=False, version=0)
        assert not await h.drop(key, RemovalCause.INVALIDATED)


@clause()
async def a_drop_removes_what_is_stale(h: Harness) -> None:
    """An expired entry is not there to be dropped, but its grace ends with the Drop."""
    h.configure(grace=10)
    for cause in (RemovalCause.DELETED, RemovalCause.INVALIDATED):
        await h.put("k", 1, ttl=2)
        await h.advance(3)
        assert await h.glance("k", stale=True) is not None
        assert not await h.drop("k", cause)
        assert await h.glance("k", stale=True) is None


@clause()
async def touch_changes_only_the_expiry(h: Harness) -> None:
    """A Touch gives a live entry a new TTL, for ever too, and leaves the rest."""
    await h.put("k", "v", ttl=5, tags=("t",))
    assert (await h.touch("k", 30)).applied
    await h.advance(8)
    await h.settle()
    record = await h.found("k")
    assert (record.value, record.tags) == ("v", ("t",))
    assert h.left(record, 22)
    assert (await h.touch("k", None)).applied
    assert (await h.found("k")).expires_in is None
    assert (await h.touch("k", 2)).applied
    await h.advance(3)
    assert await h.value("k") is MISSING


@clause()
async def touch_gives_the_version(h: Harness) -> None:
    """The version after a Touch is the one reads give."""
    await h.put("k", "v")
    assert (await h.touch("k", 10)).version == (await h.found("k")).version


@clause()
async def touch_needs_a_live_entry(h: Harness) -> None:
    """A Touch of nothing, or of what expired, is not applied and brings nothing back."""
    h.configure(grace=10)
    assert await h.touch("never", 10) == Written(applied=False, version=0)
    await h.put("k", "v", ttl=2)
    await h.advance(3)
    assert not (await h.touch("k", 10)).applied
    assert await h.value("k") is MISSING


@clause()
async def add_starts_from_initial(h: Harness) -> None:
    """An Add to nothing stores initial plus delta with the TTL; what expired is nothing."""
    assert await h.add("n", 5, initial=100, ttl=10) == 105
    record = await h.found("n")
    assert (record.value, type(record.value), record.tags) == (105, int, ())
    assert h.left(record, 10)
    await h.advance(11)
    assert await h.add("n", -1) == -1


@clause()
async def add_keeps_expiry_and_tags(h: Harness) -> None:
    """An Add to an integer keeps its expiry and its tags, and raises its version."""
    version = (await h.put("n", 1, ttl=20, tags=("t",))).version
    await h.advance(5)
    written = await h.one(Add("n", 2, 50, 99))
    assert (written.applied, written.total) == (True, 3)
    assert written.version > version
    record = await h.found("n")
    assert (record.value, record.version, record.tags) == (3, written.version, ("t",))
    assert h.left(record, 15)


@clause()
async def add_stays_in_64_bits(h: Harness) -> None:
    """Sums reach both ends of 64 bits; past them the item fails and nothing changes."""
    assert await h.add("up", 1, initial=_MOST - 1) == _MOST
    assert await h.add("down", -1, initial=_LEAST + 1) == _LEAST
    for key, delta in (("up", 1), ("up", _MOST), ("down", -1), ("down", _LEAST)):
        [outcome] = await h.write(Add(key, delta, 0, None))
        assert isinstance(outcome, InvalidArgument), f"{key} + {delta} gave {outcome!r}"
    [outcome] = await h.write(Add("none", 1, _MOST, None))
    assert isinstance(outcome, InvalidArgument)
    values = [await h.value(key) for key in ("up", "down", "none")]
    assert values == [_MOST, _LEAST, MISSING]


@clause()
async def add_needs_an_integer(h: Harness) -> None:
    """An Add to anything but an int fails with TypeMismatch and changes nothing."""
    for value in ("1", 1.0, True, None, [1]):
        version = (await h.put("k", value)).version
        [outcome] = await h.write(Add("k", 1, 0, None))
        assert isinstance(outcome, TypeMismatch), f"{value!r} + 1 gave {outcome!r}"
        record = await h.found("k")
        assert (record.value, record.version) == (value, version)
        assert type(record.value) is type(value)


@clause()
async def one_failure_harms_no_other(h: Harness) -> None:
    """What goes wrong with one item is returned in its place; the others are made."""
    await h.put("text", "x")
    outcomes = await h.write(Put("a", 1), Add("text", 1, 0, None), Put("b", 2), Touch("a", 5))
    assert [isinstance(outcome, CacheError) for outcome in outcomes] == [False, True, False, False]
    assert [await h.value(key) for key in ("a", "text", "b")] == [1, "x", 2]


@clause()
async def regions_are_disjoint(h: Harness) -> None:
    """The same key in two regions is two entries."""
    await h.put("k", "main", ttl=5)
    await h.put("k", "other", region=OTHER)
    assert await h.value("k") == "main"
    assert await h.drop("k")
    assert await h.value("k", OTHER) == "other"
    assert await h.scan(region=MAIN) == []
    assert await h.scan(region=OTHER) == ["k"]


@clause()
async def keys_are_exact(h: Harness) -> None:
    """Any Unicode key up to 64 KiB is taken as it is, and no two are mixed up."""
    for number, key in enumerate(_ODD_KEYS):
        assert (await h.put(key, number, when="absent")).applied, f"{key[:40]!r} was there"
    for number, key in enumerate(_ODD_KEYS):
        record = await h.found(key)
        assert (record.key, record.value) == (key, number)
    assert await h.scan() == sorted(_ODD_KEYS)
    for key in _ODD_KEYS:
        assert await h.drop(key)
    assert await h.scan() == []


@clause()
async def many_items_in_one_call(h: Harness) -> None:
    """A call takes thousands of items."""
    keys = [f"k{number}" for number in range(3000)]
    await h.put_all(keys)
    records = await h.backend.read(MAIN, keys)
    assert [record and record.value for record in records] == keys
    outcomes = await h.write(*[Drop(key) for key in keys])
    assert all(isinstance(outcome, Written) and outcome.applied for outcome in outcomes)


@clause()
async def a_cancelled_write_is_whole_items(h: Harness) -> None:
    """After a write that was given up each item is as before or as written, tags included."""
    changes = [Put(f"k{n}", "new", None, ("new",)) for n in range(20)]
    for steps in range(4):
        await h.put_all([change.key for change in changes], tags=("old",))
        task = asyncio.ensure_future(h.backend.write(MAIN, changes))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        [result] = await asyncio.gather(task, return_exceptions=True)
        done = isinstance(result, list) and all(isinstance(item, Written) for item in result)
        for change in changes:
            record = await h.found(change.key)
            allowed = [("new", ("new",))] if done else [("new", ("new",)), (change.key, ("old",))]
            assert (record.value, record.tags) in allowed
