"""``scan`` and ``clear``: what they must give, whatever happens meanwhile."""

from __future__ import annotations

from ...keys import escape_glob
from ...types import MISSING
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []

_GLOBS: dict[str, tuple[str, ...]] = {
    "*": ("a", "b", "user:1", "user:2", "user:10", "USER:1", "x*y", "x[y", "\n"),
    "user:*": ("user:1", "user:2", "user:10"),
    "user:?": ("user:1", "user:2"),
    "?": ("a", "b", "\n"),
    "user:[12]": ("user:1", "user:2"),
    "user:[^1]*": ("user:2",),
    "[a-b]": ("a", "b"),
    "*1*": ("user:1", "user:10", "USER:1"),
    "x\\*y": ("x*y",),
    "x\\[y": ("x[y",),
    "a": ("a",),
    "user": (),
    "*nothing": (),
}


@clause()
async def a_scan_gives_each_key_once(h: Harness) -> None:
    """Every key comes once, in lists, whatever the size of a batch."""
    keys = sorted([f"k{number}" for number in range(257)])
    await h.put_all(keys)
    for batch_size in (1, 7, 100, 10_000):
        assert await h.scan(batch_size=batch_size) == keys
    async for batch in h.backend.scan(MAIN, "*", 10):
        assert isinstance(batch, list)
    assert await h.scan(region=OTHER) == []


@clause()
async def a_scan_matches_globs(h: Harness) -> None:
    """A glob chooses the keys as Redis's does."""
    await h.put_all(_GLOBS["*"])
    for glob, expected in _GLOBS.items():
        assert await h.scan(glob) == sorted(expected), f"{glob!r} matched something else"
    for key in _GLOBS["*"]:
        assert await h.scan(escape_glob(key)) == [key]


@clause()
async def a_scan_gives_no_dead_keys(h: Harness) -> None:
    """What expired, even within its grace, what was removed and what is claimed is not given."""
    h.configure(grace=20)
    await h.put("expired", 1, ttl=2)
    await h.put("removed", 1)
    await h.put("alive", 1, ttl=10)
    await h.claim("claimed")
    await h.drop("removed")
    await h.advance(3)
    assert await h.scan() == ["alive"]


@clause()
async def a_scan_of_the_dead_gives_all_that_is_there(h: Harness) -> None:
    """Asked for the dead too, a scan gives what a load has claimed and what is in its grace."""
    h.configure(grace=20)
    await h.put("expired", 1, ttl=2)
    await h.put("alive", 1, ttl=10)
    await h.put("removed", 1)
    await h.drop("removed")
    await h.claim("claimed")
    await h.claim("other", region=OTHER)
    await h.advance(3)
    for glob, size, expected in (("*", 1, ["alive", "claimed", "expired"]), ("c*", 9, ["claimed"])):
        batches = [batch async for batch in h.backend.scan(MAIN, glob, size, dead=True)]
        assert sorted([key for batch in batches for key in batch]) == expected


@clause()
async def a_scan_survives_changes(h: Harness) -> None:
    """Keys that stay from start to end are given once, however much comes and goes meanwhile."""
    stable = [f"stable{number}" for number in range(40)]
    await h.put_all(stable)
    await h.put_all([f"old{number}" for number in range(40)])
    seen: list[str] = []
    step = 0
    async for batch in h.backend.scan(MAIN, "*", 5):
        seen += batch
        if step == 30:
            continue
        await h.put_all([f"new{step}-{number}" for number in range(20)])
        await h.put_all(stable[:10])
        await h.drop(f"old{step}")
        await h.drop(f"old{39 - step}")
        await h.put(f"old{step}", "again")
        step += 1
    assert len(seen) == len(set(seen)), "a key came twice"
    assert set(stable) <= set(seen), "a key that stayed was not given"
    possible = set(stable) | {f"old{n}" for n in range(40)}
    possible |= {f"new{s}-{n}" for s in range(step) for n in range(20)}
    assert set(seen) <= possible


@clause()
async def a_scan_survives_a_clear(h: Harness) -> None:
    """A scan ends when its region is emptied under it."""
    await h.put_all([f"k{number}" for number in range(50)])
    seen: list[str] = []
    async for batch in h.backend.scan(MAIN, "*", 5):
        seen += batch
        await h.backend.clear([MAIN])
    assert len(seen) == len(set(seen))
    assert await h.scan() == []


@clause()
async def a_scan_may_be_left(h: Harness) -> None:
    """Leaving a scan before its end harms nothing, and two may run side by side."""
    keys = [f"k{number}" for number in range(30)]
    await h.put_all(keys)
    first = h.backend.scan(MAIN, "*", 3)
    second = h.backend.scan(MAIN, "*", 4)
    seen = [*(await anext(first)), *(await anext(first))]
    assert len(seen) == len(set(seen))
    rest = [batch async for batch in second]
    assert sorted([key for batch in rest for key in batch]) == sorted(keys)


@clause("counters")
async def a_scan_leaves_no_trace(h: Harness) -> None:
    """A scan is no read."""
    await h.put_all(["a", "b"])
    before = (await h.backend.describe()).regions[MAIN]
    await h.scan()
    assert (await h.backend.describe()).regions[MAIN] == before


@clause()
async def clear_empties_its_regions_only(h: Harness) -> None:
    """``clear`` removes every entry of the regions named, says how many, and no other."""
    await h.put_all(["a", "b", "c"])
    await h.put("k", 1, region=OTHER)
    assert await h.backend.clear([MAIN]) == 3
    assert await h.scan() == []
    assert await h.value("a") is MISSING
    assert await h.value("k", OTHER) == 1
    assert await h.backend.clear([MAIN]) == 0
    await h.put("a", 1)
    assert await h.backend.clear([MAIN, OTHER]) == 2
    assert await h.backend.clear([]) == 0


@clause()
async def clear_leaves_nothing_stale(h: Harness) -> None:
    """After a ``clear`` no stale read answers, and no old expiry ends what is written next."""
    h.configure(grace=20)
    await h.put("stale", 1, ttl=2)
    await h.advance(3)
    await h.put("short", 1, ttl=2)
    await h.backend.clear([MAIN])
    assert await h.glance("stale", stale=True) is None
    await h.put("short", 2)
    await h.advance(30)
    await h.settle()
    assert await h.value("short") == 2
