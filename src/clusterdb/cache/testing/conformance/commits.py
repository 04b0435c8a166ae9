"""``commit``: several keys, all or nothing."""

from __future__ import annotations

import asyncio

from ...protocols import Drop, Put, Written
from ...types import MISSING
from .clauses import clause
from .harness import MAIN, Harness

__all__: list[str] = []


@clause("atomic")
async def a_commit_makes_all_changes(h: Harness) -> None:
    """With every check true all changes are made, with their TTLs and tags."""
    version = (await h.put("a", 1)).version
    await h.put("gone", 1)
    changes = [h.scaled(Put("a", 2, 10, ("t",))), Put("b", 3), Drop("gone"), Drop("never")]
    assert await h.backend.commit(MAIN, [("a", version), ("b", None)], changes)  # type: ignore[arg-type]
    record = await h.found("a")
    assert (record.value, record.tags) == (2, ("t",))
    assert h.left(record, 10)
    assert record.version > version
    assert [await h.value(key) for key in ("b", "gone", "never")] == [3, MISSING, MISSING]


@clause("atomic")
async def a_commit_says_what_came_of_each_change(h: Harness) -> None:
    """Outcomes come in order: versions of what was put, whether something was there to drop."""
    await h.put("there", 1)
    changes: list[Put | Drop] = [Put("a", 1), Drop("there"), Drop("never"), Put("b", 2)]
    committed = await h.backend.commit(MAIN, [], changes)
    assert committed is not None
    versions = [(await h.found(key)).version for key in ("a", "b")]
    assert committed.outcomes == (
        Written(applied=True, version=versions[0]),
        Written(applied=True, version=0),
        Written(applied=False, version=0),
        Written(applied=True, version=versions[1]),
    )


@clause("atomic")
async def a_failed_commit_changes_nothing(h: Harness) -> None:
    """With one check false, whichever it is, nothing is changed."""
    version = (await h.put("a", 1, ttl=20, tags=("t",))).version
    other = (await h.put("b", 1)).version
    changes: list[Put | Drop] = [Put("a", 2), Drop("b"), Put("c", 3)]
    for checks in (
        [("a", version + 1000), ("b", other)],
        [("a", version), ("b", None)],
        [("b", other), ("never", version)],
        [("a", None)],
    ):
        assert not await h.backend.commit(MAIN, checks, changes), checks
        record = await h.found("a")
        assert (record.value, record.version, record.tags) == (1, version, ("t",))
        assert h.left(record, 20)
        assert [await h.value(key) for key in ("b", "c")] == [1, MISSING]


@clause("atomic")
async def a_check_notices_an_equal_write(h: Harness) -> None:
    """A version check fails after any write, even of the same value."""
    version = (await h.put("a", 1)).version
    await h.put("a", 1)
    assert not await h.backend.commit(MAIN, [("a", version)], [Put("a", 2)])
    await h.drop("a")
    assert not await h.backend.commit(MAIN, [("a", version)], [Put("a", 2)])
    assert await h.value("a") is MISSING


@clause("atomic")
async def an_older_version_fails(h: Harness) -> None:
    """A check is for equality: neither an older nor a newer version will do."""
    first = (await h.put("a", 1)).version
    second = (await h.put("a", 2)).version
    for version in (first, second + 1, 0):
        assert not await h.backend.commit(MAIN, [("a", version)], [Put("a", 3)])
    assert await h.backend.commit(MAIN, [("a", second)], [Put("a", 3)])


@clause("atomic")
async def absence_is_what_no_read_finds(h: Harness) -> None:
    """To a check, what expired or whose tag ended is absent, within its grace too."""
    h.configure(grace=10)
    expired = (await h.put("expired", 1, ttl=2)).version
    ended = (await h.put("ended", 1, tags=("t",))).version
    await h.advance(3)
    await h.backend.invalidate_tags(["t"])
    assert not await h.backend.commit(MAIN, [("expired", expired)], [Put("x", 1)])
    assert not await h.backend.commit(MAIN, [("ended", ended)], [Put("x", 1)])
    assert await h.backend.commit(MAIN, [("expired", None), ("ended", None)], [Put("x", 1)])
    assert await h.value("x") == 1


@clause("atomic")
async def a_commit_may_have_no_checks_or_no_changes(h: Harness) -> None:
    """Without checks changes are made; without changes checks are tested."""
    assert await h.backend.commit(MAIN, [], [Put("a", 1), Put("b", 2)])
    version = (await h.found("a")).version
    assert await h.backend.commit(MAIN, [("a", version), ("c", None)], [])
    assert not await h.backend.commit(MAIN, [("a", None)], [])
    assert await h.backend.commit(MAIN, [], [])


@clause("atomic")
async def a_commit_ends_claims_of_what_it_changes(h: Harness) -> None:
    """Its puts and drops end claims; its checks, and a commit that fails, don't."""
    claims = [await h.claim(key) for key in ("put", "drop", "check")]
    assert not await h.backend.commit(MAIN, [("put", 99)], [Put("put", 1), Drop("drop")])
    assert await h.answer("put") is None, "the failed commit ended a claim"
    assert await h.backend.commit(MAIN, [("check", None)], [Put("put", 1), Drop("drop")])
    assert [await h.fill(claim, "loaded") for claim in claims] == [False, False, True]
    assert [await h.value(key) for key in ("put", "drop", "check")] == [1, MISSING, "loaded"]


@clause("atomic")
async def racing_commits_lose_no_update(h: Harness) -> None:
    """Of commits that saw the same version one wins: ten tasks of ten steps count to 100."""
    await h.put("n", 0)

    async def count() -> None:
        for _ in range(10):
            while True:
                seen = await h.found("n")
                await asyncio.sleep(0)
                change = Put("n", seen.value + 1)
                if await h.backend.commit(MAIN, [("n", seen.version)], [change]):
                    break

    await asyncio.gather(*[count() for _ in range(10)])
    assert await h.value("n") == 100


@clause("atomic")
async def a_cancelled_commit_is_whole(h: Harness) -> None:
    """Cancelled at any moment, a commit made all of its changes or none."""
    for steps in range(6):
        await h.put_all(["a", "b"])
        changes: list[Put | Drop] = [Put("a", "new"), Drop("b"), Put("c", "new")]
        task = asyncio.ensure_future(h.backend.commit(MAIN, [], changes))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await h.put("behind", "it")  # what was cancelled is made by now, or never will be
        values = [await h.value(key) for key in ("a", "b", "c")]
        assert values in (["a", "b", MISSING], ["new", MISSING, "new"]), values
        await h.drop("c")
