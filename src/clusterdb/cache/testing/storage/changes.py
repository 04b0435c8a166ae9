"""The stream of changes: what others learn of."""

from __future__ import annotations

import asyncio

from ...errors import ChangesLost, InvalidArgument
from .clauses import clause
from .harness import MAIN, OTHER, Harness

__all__: list[str] = []


@clause("changes", "versions")
async def changes_are_told_in_order(h: Harness) -> None:
    """With region, key, version and who wrote; from a position on, each once."""
    await h.one(h.put("before", 1))
    start = await h.storage.position()
    assert await h.told(start) == []
    await h.one(h.put("a", 1))
    other = OTHER if "regions" in h.traits else MAIN
    await h.make(h.put("b", 1, other))
    await h.one(h.gone("a"))
    for number in range(5):
        await h.one(h.put("c", number))
    assert await h.told(start) == [
        (MAIN, "a", 1, "us"),
        (other, "b", 1, "us"),
        (MAIN, "a", 2, "us"),
        *[(MAIN, "c", version, "us") for version in range(1, 6)],
    ]
    assert await h.told(await h.storage.position()) == []


@clause("changes")
async def a_change_has_its_time(h: Harness) -> None:
    """Seconds since the Unix epoch, by storage's clock: they don't run backwards."""
    start = await h.storage.position()
    await h.one(h.put("a", 1))
    await h.one(h.put("b", 1))
    changes, _ = await h.storage.changes(start, 10)
    assert 1e9 < changes[0].time <= changes[1].time


@clause("changes", "shared")
async def the_origin_tells_who_wrote(h: Harness) -> None:
    """Each storage's changes carry what it was made with."""
    start = await h.storage.position()
    other = await h.another("them")
    await h.one(h.put("a", 1))
    await other.write([h.put("b", 1)])
    assert [(key, origin) for _, key, _, origin in await h.told(start)] == [
        ("a", "us"),
        ("b", "them"),
    ]


@clause("changes")
async def what_was_not_made_is_not_told(h: Harness) -> None:
    """Nothing of a write that was undone, of a condition that failed, of a deletion of nothing."""
    await h.one(h.put("a", 1))
    start = await h.storage.position()

    async def before(_: object) -> None:
        raise InvalidArgument("no")

    await asyncio.gather(h.make(h.put("a", 2), before_commit=before), return_exceptions=True)
    await h.make(h.put("a", 2), h.gone("never"), atomic=True)
    await h.one(h.gone("never"))
    if h.has("conditions"):
        await h.one(h.put("a", 2, when="absent"))
    assert await h.told(start) == []


@clause("changes", "scans")
async def a_clear_tells_of_each_row(h: Harness) -> None:
    """Of those that were live."""
    await h.make(h.put("a", 1), h.put("b", 1), h.put("c", 1))
    await h.one(h.gone("c"))
    start = await h.storage.position()
    await h.storage.clear([MAIN])
    assert sorted([key for _, key, _, _ in await h.told(start)]) == ["a", "b"]


@clause("changes")
async def waiting_ends_with_a_change(h: Harness) -> None:
    """Of our own; one that came before the wait and was not read yet counts too."""
    position = await h.storage.position()
    _, position = await h.storage.changes(position, 10)
    waiting = asyncio.ensure_future(h.storage.wait(60))
    await asyncio.sleep(0)
    await h.one(h.put("a", 1))
    await asyncio.wait_for(waiting, 10)
    await asyncio.wait_for(h.storage.wait(60), 10)
    changes, _ = await h.storage.changes(position, 10)
    assert len(changes) == 1


@clause("changes")
async def waiting_ends_until_the_change_was_read(h: Harness) -> None:
    """Also one that was committed before anybody began to wait."""
    position = await h.storage.position()
    await h.one(h.put("a", 1))
    await asyncio.wait_for(h.storage.wait(60), 10)
    await asyncio.wait_for(h.storage.wait(60), 10)
    changes, _ = await h.storage.changes(position, 10)
    assert len(changes) == 1


@clause("changes", "shared")
async def waiting_ends_with_a_change_of_another(h: Harness) -> None:
    """Wherever it was made."""
    other = await h.another("them")
    await h.storage.changes(await h.storage.position(), 10)
    waiting = asyncio.ensure_future(h.storage.wait(60))
    await asyncio.sleep(0)
    await other.write([h.put("a", 1)])
    await asyncio.wait_for(waiting, 10)


@clause("changes")
async def waiting_ends_by_itself(h: Harness) -> None:
    """At the latest after the time that was given."""
    await h.storage.changes(await h.storage.position(), 10)
    await asyncio.wait_for(h.storage.wait(0.01), 10)


@clause("changes", "versions", "scans", "tombstones")
async def what_is_old_is_forgotten(h: Harness) -> None:
    """``prune`` forgets deleted rows and changes, of the age that was said; live rows stay."""
    start = await h.storage.position()
    await h.make(h.put("old", 1), h.put("stays", 1))
    await h.one(h.gone("old"))
    await h.advance(100)
    assert await h.storage.prune(200) == 0
    assert len(await h.told(start)) == 3
    middle = await h.storage.position()
    await h.one(h.put("new", 1))
    assert await h.storage.prune(50) == 4
    assert await h.keys() == ["new", "stays"]
    assert [key for _, key, _, _ in await h.told(middle)] == ["new"]
    try:
        await h.storage.changes(start, 10)
    except ChangesLost:
        pass
    else:
        raise AssertionError("changes were pruned, and nobody was told")


@clause("expiry", "changes", "tombstones")
async def an_expired_row_is_pruned(h: Harness) -> None:
    """Once its expiry is as long ago as was said."""
    await h.one(h.put("k", 1, ttl=10.0))
    await h.advance(50)
    assert await h.storage.prune(45) == 0 + 1  # its line in the outbox
    await h.advance(50)
    assert await h.storage.prune(80) == 1
    if h.has("versions"):
        assert (await h.one(h.put("k", 2))).version == 1


@clause("changes")
async def a_strange_position_is_lost(h: Harness) -> None:
    """A position of another database, or of none, can't be gone on from."""
    for position in ("", "elsewhere:5", "garbage"):
        try:
            await h.storage.changes(position, 10)
        except ChangesLost:
            continue
        raise AssertionError(f"{position!r} was taken for a position")
