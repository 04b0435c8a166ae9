"""Calls that are cancelled at any moment leave each thing done or not done, and no claims."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from tests.disk.processes import check_file
from tests.disk.worker import make
from tests.layers import innermost

from clusterdb.cache import CacheError


async def cancelled(call: Any, turns: int) -> None:
    """Let a call run for some turns of the loop, and cancel it."""
    task = asyncio.ensure_future(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled() and (error := task.exception()) is not None:
        assert isinstance(error, CacheError)


def left_behind(cache: Any) -> tuple[int, int, int]:
    """Claims in the file, claims here, and rights to keep something near."""
    backend: Any = innermost(cache)
    [(filed,)] = backend._attachment.attached.reader.connection.execute(
        "SELECT count(*) FROM claims"
    )
    near = sum([len(table._claims) for _, table in backend._near.tables()])
    return filed, len(backend._attachment.claims._claims), near


@pytest.mark.parametrize("seed", range(3))
async def test_cancelled_calls_leave_no_claims(seed: int, path: Path):
    draw = random.Random(seed)

    async def load() -> str:
        for _ in range(draw.randint(0, 6)):
            await asyncio.sleep(0)
        if draw.random() < 0.2:
            raise LookupError("none")
        return "loaded"

    async with make(str(path)) as cache:
        await cache.set_many({f"n{number}": number for number in range(600)})

        async def one(number: int) -> None:
            key = f"k{draw.randint(0, 5)}"
            call = draw.choice(
                [
                    lambda: cache.set(key, number, tags=("t",)),
                    lambda: cache.get_or_load(key, load, tags=("t",)),
                    lambda: cache.get_many([f"n{n}" for n in range(600)]),
                    lambda: cache.delete(key),
                    lambda: cache.invalidate_tag("t"),
                    lambda: cache.increment("count", 1),
                    lambda: innermost(cache).claim("default", [key], ("t",), 30.0),
                    cache.clear,
                ]
            )
            try:
                await cancelled(call(), draw.randint(0, 8))
            except LookupError:
                return

        for number in range(150):
            await asyncio.gather(*[quiet(one(number)) for _ in range(4)])
        backend: Any = innermost(cache)
        await asyncio.sleep(0.05)
        for claim in list(
            backend._attachment.claims._held
        ):  # of claims that were not cancelled in time
            await backend.release("default", [claim])
        await backend.tidy()
        assert left_behind(cache) == (0, 0, 0)
        assert not backend._attachment.claims._asked
        assert not backend._attachment.claims.owed
        await cache.set("after", 1)
        assert await cache.get("after") == 1
        assert await cache.get_or_load("k0", lambda: "v") is not None
    check_file(path)


async def quiet(call: Any) -> None:
    try:
        await call
    except (LookupError, AssertionError) as error:
        if isinstance(error, AssertionError):
            raise


async def test_a_claim_that_was_given_too_late_is_given_back(path: Path):
    async with make(str(path)) as one, make(str(path)) as two:
        await one.get("x")
        await two.get("x")
        mine: Any = innermost(one)
        other: Any = innermost(two)
        await cancelled(mine.claim("default", ["k"], (), 30.0), 1)
        await mine.tidy()
        [claim] = await other.claim("default", ["k"], (), 30.0)
        assert claim is not None


async def test_a_read_that_failed_halfway_keeps_no_rights(path: Path):
    async with make(str(path)) as cache:
        await cache.set_many({f"n{number}": number for number in range(600)})
        task = asyncio.ensure_future(cache.get_many([f"n{number}" for number in range(600)]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert left_behind(cache) == (0, 0, 0)
        assert await cache.get("n0") == 0
        backend: Any = innermost(cache)
        assert len(backend._near.table("default")) == 1
