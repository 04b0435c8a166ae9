"""What is loaded again before it expires, as checks that a cache over any backend must pass."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from tests.loads.callers import Gate, settle
from tests.loads.staleness import Check, Scene

from clusterdb.cache import MISSING, LoadContext

__all__ = ["AHEAD", "CHECKS"]

AHEAD: dict[str, Any] = {"refresh_ahead": 1000}
"""So eager that after a load of one unit each hit is as good as due."""

CHECKS: list[Check] = []


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


async def old(scene: Scene, *keys: str, tags: tuple[str, ...] = ()) -> None:
    """Load live values, which takes a unit of time."""

    async def load(missing: list[str]) -> dict[str, str]:
        await scene.advance(1)
        return dict.fromkeys(missing, "old")

    await scene.cache.get_or_load_many(keys, load, ttl=50 * scene.unit, tags=tags)


async def hit(
    scene: Scene, key: str, loader: Callable[..., Any], begun: Callable[[], bool], **options: Any
) -> None:
    """Call until a refresh has begun; each call is a hit."""

    async def true() -> bool:
        if begun():
            return True
        assert await scene.cache.get_or_load(key, loader, **options) == "old"
        return begun()

    await scene.until(true)


@check
async def a_live_entry_is_loaded_again_by_one(scene: Scene) -> None:
    await old(scene, "a")
    gate = Gate("new")
    await hit(scene, "a", gate, gate.began.is_set)
    assert set(await asyncio.gather(*[scene.cache.get_or_load("a", gate) for _ in range(50)])) == {
        "old"
    }
    gate.open()
    await scene.becomes("a", "new")
    await scene.counts("refreshes")
    assert gate.calls == 1
    statistics = await scene.statistics()
    assert (statistics.refreshes, statistics.misses, statistics.loads) == (1, 1, 2)


@check
async def whatever_happens_to_the_key_meanwhile_wins(scene: Scene) -> None:
    cache = scene.cache
    changes: dict[str, Callable[[], Awaitable[object]]] = {
        "invalidate": lambda: cache.invalidate("a"),
        "delete": lambda: cache.delete("a"),
        "set": lambda: cache.set("a", "set", ttl=None),
        "tag": lambda: cache.invalidate_tag("t"),
        "clear": cache.clear,
    }
    for number, (name, change) in enumerate(changes.items()):
        await cache.delete("a")
        await old(scene, "a", tags=("t",))
        gate = Gate("read before that")
        await hit(scene, "a", gate, gate.began.is_set, tags=("t",))
        await change()
        gate.open()

        async def lost(wanted: int = number + 1) -> bool:
            return (await scene.statistics()).lost_fills == wanted

        await scene.until(lost)
        left = await cache.get("a", MISSING)
        assert left == ("set" if name == "set" else MISSING), name


@check
async def a_refresh_that_fails_leaves_the_entry_and_is_tried_once(scene: Scene) -> None:
    await old(scene, "a")
    broken = Gate(error=OSError("down"))
    broken.open()
    await hit(scene, "a", broken, broken.began.is_set)
    await scene.counts("load_failures")
    for _ in range(100):
        assert await scene.cache.get_or_load("a", broken) == "old"
        await asyncio.sleep(0)
    await settle()
    assert broken.calls == 1


@check
async def a_value_that_needs_another_tag_is_not_stored(scene: Scene) -> None:
    await old(scene, "a", tags=("t",))
    done = asyncio.Event()

    async def load(context: LoadContext) -> str:
        context.add_tags("learnt")
        done.set()
        return "new"

    await hit(scene, "a", load, done.is_set, tags=("t",))
    await scene.counts("lost_fills")
    assert await scene.cache.get("a") == "old"


@check
async def a_loader_may_set_the_ttl_or_skip(scene: Scene) -> None:
    await old(scene, "a")
    skipped = asyncio.Event()

    async def skip(context: LoadContext) -> str:
        context.skip()
        skipped.set()
        return "skipped"

    await hit(scene, "a", skip, skipped.is_set)
    assert await scene.cache.get("a") == "old"
    await scene.cache.delete("a")
    await old(scene, "a")
    done = asyncio.Event()

    async def load(context: LoadContext) -> str:
        context.ttl = None
        done.set()
        return "new"

    await hit(scene, "a", load, done.is_set)
    await scene.becomes("a", "new")
    found: Any = await scene.cache.lookup("a")
    assert found.expires_in is None


@check
async def of_many_keys_those_that_are_due_are_loaded_by_one_call(scene: Scene) -> None:
    await old(scene, "a", "b")
    asked: list[str] = []

    async def load(keys: list[str]) -> dict[str, str]:
        asked.extend(keys)
        return dict.fromkeys(keys, "new")

    async def all_new() -> bool:
        found = await scene.cache.get_or_load_many(["a", "b"], load)
        assert set(found) == {"a", "b"}
        return set(found.values()) == {"new"}

    await scene.until(all_new)
    assert sorted(asked)[:2] == ["a", "b"]


@check
async def a_decorated_function_is_called_ahead(scene: Scene) -> None:
    runs = 0

    @scene.cache.cached("n", ttl=50 * scene.unit)
    async def count() -> int:
        nonlocal runs
        runs += 1
        if runs == 1:
            await scene.advance(1)
        return runs

    async def again() -> bool:
        return await count() == 2

    await scene.until(again)
    assert (await scene.statistics()).misses == 1
