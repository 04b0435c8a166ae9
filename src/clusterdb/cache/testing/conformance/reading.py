"""``read`` and ``peek``: what they answer, until when, and what trace they leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import get_args

from ...types import MISSING, RemovalCause, Tier
from .clauses import clause
from .harness import MAIN, Harness

__all__: list[str] = []


@clause()
async def read_gives_what_was_written(h: Harness) -> None:
    """A record has the key, value, version, tags and time left of the write, and a tier."""
    written = await h.put("k", "v", ttl=30, tags=("t", "u"))
    record = await h.found("k")
    assert (record.key, record.value, record.version) == ("k", "v", written.version)
    assert sorted(record.tags) == ["t", "u"]
    assert h.left(record, 30)
    assert record.tier in get_args(Tier)
    assert record.age_bound >= 0


@clause()
async def read_answers_in_order(h: Harness) -> None:
    """Each key is answered in its place, asked for twice or missing."""
    await h.put_all(["a", "b"])
    for look in (h.backend.read, h.backend.peek):
        records = await look(MAIN, ["b", "none", "a", "b"])
        assert [record and record.value for record in records] == ["b", None, "a", "b"]
        assert await look(MAIN, []) == []


@clause()
async def every_value_is_a_value(h: Harness) -> None:
    """None, 0, the empty string and False are values, not absence."""
    values: list[object] = [None, 0, "", False, [], {}]
    for value in values:
        await h.put("k", value)
        assert await h.value("k") == value
        assert type(await h.value("k")) is type(value)
        glance = await h.glance("k")
        assert glance is not None
        assert glance.value == value


@clause("objects")
async def objects_come_back_themselves(h: Harness) -> None:
    """A backend that keeps objects gives back the very object."""
    value = object()
    await h.put("k", value)
    assert await h.value("k") is value


@clause()
async def an_entry_without_ttl_stays(h: Harness) -> None:
    """Without a TTL an entry has no expiry, however much time passes."""
    await h.put("k", "v")
    await h.advance(50)
    await h.settle()
    record = await h.found("k")
    assert record.expires_in is None


@clause()
async def an_entry_expires(h: Harness) -> None:
    """Past its TTL an entry is absent to reads and looks, before and after it is given back."""
    await h.put("k", "v", ttl=5)
    await h.advance(6)
    assert await h.glance("k") is None
    assert await h.record("k") is None
    assert await h.record("k", stale=True) is None
    await h.settle()
    assert await h.record("k") is None


@clause("exact_time")
async def expiry_is_exact(h: Harness) -> None:
    """An entry is there to the last instant before its TTL is over, and gone at it."""
    await h.put("k", "v", ttl=5)
    await h.advance(5 - 2**-10)
    assert (await h.found("k")).value == "v"
    assert await h.glance("k") is not None
    await h.advance(2**-10)
    assert await h.glance("k") is None
    assert await h.record("k") is None


@clause()
async def far_deadlines_are_kept(h: Harness) -> None:
    """The longest TTL there is (1e10 seconds) works, and does not end early."""
    await h.put("k", "v", ttl=1e10 / h.unit)
    await h.advance(20)
    record = await h.found("k")
    assert record.expires_in is not None
    assert record.expires_in > 9.9e9


@clause()
async def time_left_counts_down(h: Harness) -> None:
    """``expires_in`` shrinks as time passes, for reads and looks."""
    await h.put("k", "v", ttl=20)
    await h.advance(8)
    assert h.left(await h.found("k"), 12)
    glance = await h.glance("k")
    assert glance is not None
    assert h.left(glance, 12)


@clause()
async def grace_serves_stale_only_on_request(h: Harness) -> None:
    """Within its region's grace an expired entry answers only ``stale=True``."""
    h.configure(grace=10)
    await h.put("k", "v", ttl=5)
    await h.advance(8)
    assert await h.record("k") is None
    assert await h.glance("k") is None
    for record in (await h.record("k", stale=True), await h.glance("k", stale=True)):
        assert record is not None
        assert record.stale
        assert record.value == "v"
        assert h.left(record, -3)


@clause()
async def grace_ends(h: Harness) -> None:
    """Past TTL and grace an entry is absent to stale reads too."""
    h.configure(grace=4)
    await h.put("k", "v", ttl=4)
    await h.advance(9)
    assert await h.glance("k", stale=True) is None
    assert await h.record("k", stale=True) is None


@clause()
async def a_brief_read_finds_the_same(h: Harness) -> None:
    """``brief=True`` gives key, value, version and tags as a whole read does, alone and among
    others.
    """
    await h.put("k", "v", ttl=30, tags=("t",))
    await h.put("other", "w")
    for keys in (["k"], ["none"], ["k", "none", "other"]):
        whole = await h.backend.read(MAIN, keys)
        brief = await h.backend.read(MAIN, keys, brief=True)
        assert [each and (each.key, each.value, each.version, each.tags) for each in brief] == [
            each and (each.key, each.value, each.version, each.tags) for each in whole
        ]
    await h.backend.invalidate_tags(["t"])
    assert await h.backend.read(MAIN, ["k"], brief=True) == [None]


@clause()
async def a_brief_read_knows_what_has_expired(h: Harness) -> None:
    """``brief=True`` finds nothing past the TTL, also where only the entry still has a grace."""
    h.configure(grace=10)
    await h.put_all(["a", "b"], ttl=5)
    h.configure(grace=0)
    for keys in (["a"], ["a", "b"]):
        assert None not in await h.backend.read(MAIN, keys, brief=True)
    await h.advance(8)
    for grace in (0, 10):
        h.configure(grace=grace)
        for keys in (["a"], ["a", "b"]):
            assert await h.backend.read(MAIN, keys, brief=True) == [None] * len(keys)


@clause()
async def a_live_entry_is_not_stale(h: Harness) -> None:
    """``stale=True`` gives a live entry as it is."""
    h.configure(grace=10)
    await h.put("k", "v", ttl=5)
    record = await h.record("k", stale=True)
    assert record is not None
    assert not record.stale


@clause("limits", "counters")
async def peek_leaves_no_trace(h: Harness) -> None:
    """A look changes neither counters nor the order of eviction."""
    h.configure(max_items=2)
    await h.put_all(["a", "b"])
    before = (await h.backend.describe()).regions[MAIN]
    await h.backend.peek(MAIN, ["a", "none"])
    assert (await h.backend.describe()).regions[MAIN] == before
    await h.put("c", "c")
    assert await h.glance("a") is None
    assert await h.glance("b") is not None


@clause()
async def a_consistent_read_sees_the_latest_write(h: Harness) -> None:
    """``consistent=True`` answers with the latest completed write."""
    for value in range(5):
        await h.put("k", value)
        [record] = await h.backend.read(MAIN, ["k"], consistent=True)
        assert record is not None
        assert record.value == value


@clause()
async def a_read_sees_own_writes(h: Harness) -> None:
    """A plain read after a write, a removal or an expiry change sees it."""
    await h.put("k", 1)
    assert await h.value("k") == 1
    await h.put("k", 2)
    assert await h.value("k") == 2
    await h.drop("k")
    assert await h.value("k") is MISSING


@clause("near", "objects")
async def a_table_agrees_with_reads(h: Harness) -> None:
    """The table of a region answers hits exactly where reads do."""
    table = h.backend.table(MAIN)
    assert table is not None
    await h.put("k", "v", ttl=5, tags=("t",))
    await h.put("tagged", "v", tags=("t",))
    assert table.get("k", h.clock.now()) == "v"
    assert table.get("none", h.clock.now()) is MISSING
    await h.advance(5)
    assert table.get("k", h.clock.now()) is MISSING
    assert table.get("tagged", h.clock.now()) == "v"
    await h.backend.invalidate_tags(["t"])
    assert table.get("tagged", h.clock.now()) is MISSING


@clause()
async def what_is_last_known_was_not_removed(h: Harness) -> None:
    """What a process holds for an outage is the value it read last, or nothing; after a removal
    it is nothing.
    """
    await h.put("k", "v", tags=("t",))
    removals: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: h.drop("k"),
        lambda: h.drop("k", RemovalCause.INVALIDATED),
        lambda: h.backend.invalidate_tags(["t"]),
        lambda: h.backend.clear([MAIN]),
    )
    for remove in removals:
        await h.put("k", "v", tags=("t",))
        await h.found("k")
        known = h.backend.last_known(MAIN, ["k", "none"])
        assert [record and record.value for record in known] in (["v", None], [None, None])
        await remove()
        assert h.backend.last_known(MAIN, ["k"]) == [None]
