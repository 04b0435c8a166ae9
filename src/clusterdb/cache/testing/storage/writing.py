"""``write``: rows, versions, deletions, expiry, tags."""

from __future__ import annotations

from ...errors import CacheError
from ...rows import RowWritten
from .clauses import clause
from .harness import Harness

__all__: list[str] = []


@clause()
async def a_write_replaces(h: Harness) -> None:
    """The last value stays."""
    await h.one(h.put("k", 1))
    await h.one(h.put("k", 2))
    assert (await h.found("k")).value == h.value(2)


@clause("presence")
async def a_deleted_row_is_gone(h: Harness) -> None:
    """A deletion says whether a live row was there."""
    await h.one(h.put("k", 1))
    assert (await h.one(h.gone("k"))).applied
    assert await h.row("k") is None
    assert not (await h.one(h.gone("k"))).applied
    assert not (await h.one(h.gone("never"))).applied
    await h.one(h.put("k", 2))
    assert (await h.found("k")).value == h.value(2)


@clause("presence")
async def outcomes_come_in_order(h: Harness) -> None:
    """Each change has its outcome at its place, whatever the order of keys."""
    await h.one(h.put("m", 1))
    outcomes = await h.make(h.put("z", 1), h.gone("never"), h.gone("m"), h.put("a", 2))
    applied = [isinstance(it, RowWritten) and it.applied for it in outcomes]
    assert applied == [True, False, True, True]
    assert await h.make() == []


@clause("versions")
async def versions_grow_by_one(h: Harness) -> None:
    """With each write to a key, through deletions; another key's don't count."""
    versions = []
    for change in (h.put("k", 1), h.put("k", 1), h.gone("k"), h.put("k", 2)):
        versions.append((await h.one(change)).version)
        await h.one(h.put("other", 1))
    assert versions == [1, 2, 3, 4]
    assert (await h.found("k")).version == 4


@clause("versions")
async def a_deletion_of_nothing_changes_no_version(h: Harness) -> None:
    """What is not there can't be deleted, and keeps the version it has."""
    assert await h.one(h.gone("never")) == RowWritten(applied=False, version=0)
    await h.one(h.put("k", 1))
    await h.one(h.gone("k"))
    assert await h.one(h.gone("k")) == RowWritten(applied=False, version=2)
    assert (await h.one(h.put("never", 1))).version == 1


@clause("versions")
async def a_given_version_is_taken_once(h: Harness) -> None:
    """A change with a version is made over a lower one only: it may come late, or twice."""
    assert await h.one(h.put("k", 1, version=10)) == RowWritten(applied=True, version=10)
    assert await h.one(h.put("k", 2, version=10)) == RowWritten(applied=False, version=10)
    assert await h.one(h.put("k", 3, version=9)) == RowWritten(applied=False, version=10)
    assert (await h.found("k")).value == h.value(1)
    assert (await h.one(h.put("k", 4, version=2**60))).applied
    assert await h.one(h.put("k", 5)) == RowWritten(applied=True, version=2**60 + 1)


@clause("versions")
async def a_deletion_with_a_version_stays(h: Harness) -> None:
    """An older change that comes after it is not made, though no row was ever there."""
    assert await h.one(h.gone("k", version=10)) == RowWritten(applied=False, version=10)
    assert not (await h.one(h.put("k", 1, version=9))).applied
    assert await h.row("k") is None
    assert (await h.one(h.put("k", 2, version=11))).applied
    assert (await h.one(h.gone("k", version=12))).applied
    assert await h.one(h.put("k", 3, version=12)) == RowWritten(applied=False, version=12)


@clause("expiry")
async def a_row_expires(h: Harness) -> None:
    """``ttl`` counts from now, and ends exactly; without one a row stays."""
    await h.make(h.put("short", 1, ttl=100.0), h.put("long", 1, ttl=1000.0), h.put("ever", 1))
    await h.advance(60)
    left = (await h.found("short")).ttl
    assert left is not None
    assert 30 <= left <= 40
    await h.advance(60)
    assert await h.row("short") is None
    assert await h.keys() == ["ever", "long"]
    assert (await h.found("ever")).ttl is None


@clause("expiry")
async def an_overwrite_replaces_the_expiry(h: Harness) -> None:
    """Also by none; ``keep_ttl`` keeps that of a live row."""
    await h.make(h.put("a", 1, ttl=100.0), h.put("b", 1, ttl=100.0), h.put("c", 1, ttl=100.0))
    await h.make(h.put("a", 2), h.put("b", 2, keep_ttl=True), h.put("c", 2, ttl=1000.0))
    await h.advance(200)
    assert [(await h.row(key)) is not None for key in "abc"] == [True, False, True]
    await h.one(h.put("b", 3, keep_ttl=True))
    assert (await h.found("b")).ttl is None


@clause("expiry", "versions")
async def an_expired_row_keeps_its_version(h: Harness) -> None:
    """It is absent for everybody, and a new row goes on from its version."""
    await h.one(h.put("k", 1, ttl=10.0))
    await h.advance(20)
    assert await h.one(h.gone("k")) == RowWritten(applied=False, version=1)
    assert await h.one(h.put("k", 2)) == RowWritten(applied=True, version=2)


@clause("tags")
async def tags_come_back(h: Harness) -> None:
    """A row keeps the tags of its last write."""
    tags = ("user", "ü:{1}", "with space", 'quo"te')
    await h.one(h.put("k", 1, tags=tags))
    assert (await h.found("k")).tags == tags
    await h.one(h.put("k", 1))
    assert (await h.found("k")).tags == ()


@clause("any_key")
async def a_failing_row_fails_alone(h: Harness) -> None:
    """What a database does not take of one row is that row's error; the others are written."""
    outcomes = await h.make(h.put("a", 1), h.put("b", 2, version=2**63), h.put("c", 3))
    refused = [isinstance(outcome, CacheError) for outcome in outcomes]
    assert refused == [False, True, False]
    rows = await h.storage.read("main", ["a", "b", "c"])
    assert [row and row.value for row in rows] == [h.value(1), None, h.value(3)]
