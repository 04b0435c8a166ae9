"""What happens between a write and its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...errors import CacheError, InvalidArgument
from ...rows import RowWritten
from ...types import MISSING
from .clauses import clause
from .harness import Harness

__all__: list[str] = []


@clause()
async def before_the_commit_outcomes_are_told(h: Harness) -> None:
    """``before_commit`` is awaited once, with what is then returned."""
    told: list[Sequence[RowWritten | CacheError]] = []

    async def before(outcomes: Sequence[RowWritten | CacheError]) -> None:
        told.append(outcomes)

    made = await h.make(h.put("a", 1), h.gone("never"), before_commit=before)
    assert [list(each) for each in told] == [made]


@clause("transactions")
async def nothing_is_seen_before_the_commit(h: Harness) -> None:
    """Neither rows nor changes; readers see what was committed, and don't wait."""
    await h.one(h.put("k", 1))
    seen = []

    async def before(_: object) -> None:
        seen.append((await h.found("k")).value)
        seen.append(await h.row("new"))

    await h.make(h.put("k", 2), h.put("new", 1), before_commit=before)
    assert seen == [h.value(1), None]
    assert (await h.found("k")).value == h.value(2)


@clause()
async def an_error_before_the_commit_undoes_all(h: Harness) -> None:
    """And goes on to the caller; the next write works."""
    await h.one(h.put("k", 1))

    async def before(_: object) -> None:
        raise InvalidArgument("no")

    try:
        await h.make(h.put("k", 2), h.put("new", 1), before_commit=before)
    except InvalidArgument:
        pass
    else:
        raise AssertionError("the error was lost")
    assert (await h.found("k")).value == h.value(1)
    assert await h.row("new") is None
    await h.one(h.put("k", 3))
    assert (await h.found("k")).value == h.value(3)


@clause("atomic")
async def what_is_not_made_has_no_commit(h: Harness) -> None:
    """An atomic write that makes nothing does not ask before the commit."""
    asked = []

    async def before(_: object) -> None:
        asked.append(1)

    await h.make(h.put("a", 1), h.gone("never"), atomic=True, before_commit=before)
    assert not asked
    await h.make(h.put("a", 1), atomic=True, before_commit=before)
    assert asked == [1]


@clause("atomic")
async def a_cancelled_write_is_whole(h: Harness) -> None:
    """Cancelled at any moment, a write made all of its changes or none."""
    for steps in range(6):
        await h.make(h.put("a", 1), h.put("b", 1), h.gone("c"))
        changes = [h.put("a", 2), h.gone("b"), h.put("c", 2)]
        task = asyncio.ensure_future(h.make(*changes))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await h.storage.aclose()  # what was cancelled is made by then, or never will be
        await h.storage.open()
        rows = await h.storage.read("main", ["a", "b", "c"])
        values = [MISSING if row is None else row.value for row in rows]
        assert values in (
            [h.value(1), h.value(1), MISSING],
            [h.value(2), MISSING, h.value(2)],
        ), values


@clause("transactions")
async def writes_of_a_crowd_are_all_made(h: Harness) -> None:
    """Fifty writes at once, of keys in all orders, end well."""
    keys = [f"k{number}" for number in range(10)]

    async def write(number: int) -> None:
        order = keys[number % 10 :] + keys[: number % 10]
        outcomes = await h.make(*[h.put(key, number) for key in order])
        assert all(isinstance(outcome, RowWritten) for outcome in outcomes), outcomes

    await asyncio.gather(*[write(number) for number in range(50)])
    rows = await h.storage.read("main", keys)
    values = [row.value for row in rows if row is not None]
    assert values == [values[0]] * 10
    if h.has("versions"):
        assert {row.version for row in rows if row is not None} == {50}
