"""``describe``: figures that add up."""

from __future__ import annotations

from ...protocols import Drop, Put
from ...types import RemovalCause
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []


async def _counts(h: Harness, *names: str) -> tuple[int, ...]:
    counters = (await h.backend.describe()).regions[MAIN].counters
    return tuple([getattr(counters, name) for name in names])


@clause("counters")
async def hits_and_misses_add_up(h: Harness) -> None:
    """Every key read is a hit, a stale hit or a miss."""
    h.configure(grace=10)
    await h.put("k", 1, ttl=5)
    await h.backend.read(MAIN, ["k", "none", "k"])
    await h.advance(6)
    await h.backend.read(MAIN, ["k"])
    await h.backend.read(MAIN, ["k", "none"], stale=True)
    assert await _counts(h, "hits", "stale_hits", "misses") == (2, 1, 3)


@clause("counters", "near", "objects")
async def hits_of_a_table_count(h: Harness) -> None:
    """A hit answered by the table counts as one of the backend."""
    await h.put("k", 1)
    table = h.backend.table(MAIN)
    assert table is not None
    for _ in range(1000):
        table.get("k", h.clock.now())
    table.get("none", h.clock.now())
    assert await _counts(h, "hits", "misses") == (1000, 0)


@clause("counters")
async def writes_add_up(h: Harness) -> None:
    """``sets`` counts what was stored, not what was refused."""
    await h.put("a", 1)
    await h.put("a", 2, when="absent")
    await h.put("b", 2, when="present")
    await h.add("n", 1)
    await h.add("n", 1)
    await h.touch("a", 10)
    await h.fill(await h.claim("filled"), 1)
    assert await _counts(h, "sets") == (4,)


@clause("counters")
async def removals_add_up(h: Harness) -> None:
    """Each removal is counted once, by its cause; removing nothing is not."""
    await h.put_all(["a", "b", "c"])
    await h.write(Drop("a"), Drop("a"), Drop("none"))
    await h.drop("b", RemovalCause.INVALIDATED)
    await h.drop("none", RemovalCause.INVALIDATED)
    await h.backend.clear([MAIN])
    assert await _counts(h, "deletes", "invalidations", "evictions", "expirations") == (1, 1, 0, 0)


@clause("counters", "limits")
async def evictions_and_expirations_add_up(h: Harness) -> None:
    """What leaves by itself is counted once: evicted, expired or too large to come in."""
    h.configure(max_items=3, max_weight=2000)
    await h.put_all(["a", "b", "c", "d"], ttl=5)
    await h.write(Put("big", "x" * 3000))
    await h.advance(7)
    await h.settle()
    names = ("evictions", "expirations", "rejections", "deletes", "invalidations")
    assert await _counts(h, *names) == (1, 3, 1, 0, 0)


@clause("counters", "sizes")
async def regions_are_counted_apart(h: Harness) -> None:
    """Each region has its own figures, and all of them are described."""
    await h.put_all(["a", "b"])
    await h.put("k", 1, region=OTHER)
    await h.record("k", OTHER)
    info = await h.backend.describe()
    assert set(info.regions) == {MAIN, OTHER}
    assert [info.regions[name].items for name in (MAIN, OTHER)] == [2, 1]
    assert [info.regions[name].counters.hits for name in (MAIN, OTHER)] == [0, 1]
    assert info.kind == h.backend.kind


@clause("counters", "sizes")
async def a_description_stands_still(h: Harness) -> None:
    """What was described does not change with what happens next."""
    await h.put("a", 1)
    info = await h.backend.describe()
    await h.put("b", 1)
    await h.record("a")
    assert info.regions[MAIN].items == 1
    assert (info.regions[MAIN].counters.sets, info.regions[MAIN].counters.hits) == (1, 0)
