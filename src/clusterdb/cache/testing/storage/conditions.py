"""``when`` and ``expect``: judged under the lock of the row."""

from __future__ import annotations

import asyncio

from ...rows import RowWritten
from .clauses import clause
from .harness import Harness

__all__: list[str] = []


@clause("conditions")
async def absent_writes_only_where_nothing_is(h: Harness) -> None:
    """To ``when="absent"`` what was deleted is absent."""
    assert (await h.one(h.put("k", 1, when="absent"))).applied
    assert not (await h.one(h.put("k", 2, when="absent"))).applied
    assert (await h.found("k")).value == h.value(1)
    await h.one(h.gone("k"))
    assert (await h.one(h.put("k", 3, when="absent"))).applied


@clause("conditions")
async def present_writes_only_over_something(h: Harness) -> None:
    """To ``when="present"`` what was deleted is not there."""
    assert not (await h.one(h.put("k", 1, when="present"))).applied
    assert await h.row("k") is None
    await h.one(h.put("k", 1))
    assert (await h.one(h.put("k", 2, when="present"))).applied
    await h.one(h.gone("k"))
    assert not (await h.one(h.put("k", 3, when="present"))).applied


@clause("conditions", "expiry")
async def expired_is_absent(h: Harness) -> None:
    """To both conditions."""
    await h.make(h.put("a", 1, ttl=10.0), h.put("b", 1, ttl=10.0))
    await h.advance(20)
    assert not (await h.one(h.put("a", 2, when="present"))).applied
    assert (await h.one(h.put("b", 2, when="absent"))).applied


@clause("versions")
async def an_expected_version_must_be_there(h: Harness) -> None:
    """0 expects no live row; an older version fails, and so does a newer one."""
    assert not (await h.one(h.put("k", 1, expect=1))).applied
    assert (await h.one(h.put("k", 1, expect=0))).applied
    assert await h.one(h.put("k", 2, expect=0)) == RowWritten(applied=False, version=1)
    assert not (await h.one(h.put("k", 2, expect=2))).applied
    assert (await h.one(h.put("k", 2, expect=1))).applied
    assert not (await h.one(h.gone("k", expect=1))).applied
    assert (await h.one(h.gone("k", expect=2))).applied
    assert (await h.one(h.put("k", 3, expect=0))).applied


@clause("versions")
async def racing_writers_lose_no_update(h: Harness) -> None:
    """Of changes that expect the same version one is made: ten tasks of five steps count to 50."""

    async def count() -> None:
        for _ in range(5):
            while True:
                row = await h.row("n")
                seen = 0 if row is None else row.version
                written = await h.one(h.put("n", 1, expect=seen))
                if written.applied:
                    assert written.version == seen + 1, "it was made over another version"
                    break

    await asyncio.gather(*[count() for _ in range(10)])
    assert (await h.found("n")).version == 50


@clause("versions", "shared")
async def two_storages_count_together(h: Harness) -> None:
    """Writers in two processes draw the versions of a row one after the other."""
    other = await h.another("them")

    async def write(storage: object) -> list[int]:
        found = []
        for _ in range(10):
            write = h.storage.write if storage is h.storage else other.write
            [outcome] = await write([h.put("k", 1)])
            assert isinstance(outcome, RowWritten)
            found.append(outcome.version)
        return found

    ours, theirs = await asyncio.gather(write(h.storage), write(other))
    assert sorted([*ours, *theirs]) == list(range(1, 21))


@clause("atomic")
async def all_changes_or_none(h: Harness) -> None:
    """With one that is not applied none is; outcomes then tell the versions that stay."""
    await h.make(h.put("a", 1), h.put("b", 1))
    changes = [h.put("a", 2), h.gone("never"), h.put("c", 1)]
    outcomes = await h.make(*changes, atomic=True)
    assert [isinstance(it, RowWritten) and it.applied for it in outcomes] == [False] * 3
    if h.has("versions"):
        assert outcomes[0] == RowWritten(applied=False, version=1)
    rows = await h.storage.read("main", ["a", "b", "c"])
    assert [row and row.value for row in rows] == [h.value(1), h.value(1), None]
    done = await h.make(h.put("a", 3), h.gone("b"), h.put("c", 3), atomic=True)
    assert all(isinstance(it, RowWritten) and it.applied for it in done)
    rows = await h.storage.read("main", ["a", "b", "c"])
    assert [row and row.value for row in rows] == [h.value(3), None, h.value(3)]
