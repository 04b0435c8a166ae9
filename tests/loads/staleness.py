"""What callers are given past a value's time, as checks that a cache over any backend must pass.

Times are in units, which a backend with its own clock makes as long as it needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from tests.loads.callers import Gate

from clusterdb.cache import (
    MISSING,
    Cache,
    GetOptions,
    LoadConfig,
    LoadTimeout,
    RegionStats,
    Stale,
)

__all__ = ["CHECKS", "Check", "Scene"]

STALE = GetOptions(allow_stale=True)


class Scene:
    """A cache whose time passes by ``advance``; ``unit`` is in seconds."""

    def __init__(self, cache: Cache, unit: float, advance: Callable[[float], Awaitable[None]]):
        self.cache = cache
        self.unit = unit
        self._advance = advance

    async def advance(self, units: float) -> None:
        await self._advance(units * self.unit)

    async def old(self, *keys: str, tags: tuple[str, ...] = ()) -> None:
        """Store values that have just expired."""
        await self.cache.set_many(dict.fromkeys(keys, "old"), ttl=self.unit, tags=tags)
        await self.advance(1.5)

    async def statistics(self) -> RegionStats:
        return (await self.cache.get_statistics()).regions["default"]

    async def until(self, true: Callable[[], Awaitable[bool]]) -> None:
        """Wait for something that is about to come about."""
        async with asyncio.timeout(5):
            while True:
                if await true():
                    return
                await asyncio.sleep(0.001)

    async def becomes(self, key: str, value: object) -> None:
        """Wait until ``key`` holds ``value``."""

        async def true() -> bool:
            return await self.cache.get(key, MISSING) == value

        await self.until(true)

    async def counts(self, name: str) -> None:
        """Wait until a counter is above 0."""

        async def true() -> bool:
            return bool(getattr(await self.statistics(), name))

        await self.until(true)


Check: TypeAlias = Callable[[Scene], Awaitable[None]]
CHECKS: list[tuple[Check, dict[str, float], dict[str, Any]]] = []
"""Each check, its windows in units, and other settings of its loads."""


def check(*, others: dict[str, Any] | None = None, **windows: float) -> Callable[[Check], Check]:
    def enter(function: Check) -> Check:
        CHECKS.append((function, windows, others or {}))
        return function

    return enter


def loads(windows: dict[str, float], others: dict[str, Any], unit: float) -> LoadConfig:
    """The settings of a check's region."""
    settings: dict[str, Any] = {name: units * unit for name, units in windows.items()}
    return LoadConfig(**settings, **others)


# -- stale while revalidate


@check(stale_while_revalidate=10)
async def an_expired_value_is_given_at_once_and_renewed_once(scene: Scene) -> None:
    await scene.old("a")
    gate = Gate("new")
    given = await asyncio.gather(*[scene.cache.get_or_load("a", gate) for _ in range(20)])
    assert set(given) == {"old"}
    await gate.began.wait()
    gate.open()
    await scene.becomes("a", "new")
    assert gate.calls == 1
    assert (await scene.statistics()).stale_while_revalidating == 20


@check(stale_while_revalidate=10)
async def past_its_window_a_value_is_loaded(scene: Scene) -> None:
    await scene.old("a")
    await scene.advance(10)
    assert await scene.cache.get_or_load("a", lambda: "new") == "new"
    assert (await scene.statistics()).stale_served == 0


@check(stale_while_revalidate=10)
async def what_was_invalidated_is_not_given(scene: Scene) -> None:
    cache = scene.cache
    for ended in (cache.invalidate("a"), cache.delete("a"), cache.invalidate_tag("t"), None):
        await scene.old("a", tags=("t",))
        await (cache.clear() if ended is None else ended)
        assert await cache.get_or_load("a", lambda: "new", tags=("t",)) == "new"
    assert (await scene.statistics()).stale_served == 0


@check(stale_while_revalidate=10)
async def a_renewal_that_was_invalidated_stores_nothing(scene: Scene) -> None:
    await scene.old("a")
    gate = Gate("read before the invalidation")
    assert await scene.cache.get_or_load("a", gate) == "old"
    await gate.began.wait()
    await scene.cache.invalidate("a")
    gate.open()
    await scene.counts("lost_fills")
    assert await scene.cache.get("a", MISSING) is MISSING
    assert await scene.cache.get_or_load("a", lambda: "new") == "new"


@check(stale_while_revalidate=10)
async def of_many_keys_the_expired_are_given_and_the_missing_loaded(scene: Scene) -> None:
    await scene.old("a", "b")
    await scene.cache.set("d", "live")
    asked: list[list[str]] = []

    def load(keys: list[str]) -> dict[str, str]:
        asked.append(sorted(keys))
        return dict.fromkeys(keys, "new")

    found = await scene.cache.get_or_load_many(list("abcd"), load)
    assert found == {"a": "old", "b": "old", "c": "new", "d": "live"}
    await scene.becomes("a", "new")
    await scene.becomes("b", "new")
    assert sorted(asked) == [["a", "b"], ["c"]]


@check(stale_while_revalidate=10, others={"max_concurrent_loads": 2})
async def so_many_are_renewed_at_once(scene: Scene) -> None:
    await scene.old(*"abcdef")
    gates = {key: Gate("new") for key in "abcdef"}
    for key, gate in gates.items():
        assert await scene.cache.get_or_load(key, gate) == "old"
    await asyncio.gather(gates["a"].began.wait(), gates["b"].began.wait())
    assert [gate.calls for gate in gates.values()] == [1, 1, 0, 0, 0, 0]
    for gate in gates.values():
        gate.open()

    async def tried_again() -> bool:
        """A place is free when a renewal has ended, a moment after its value was stored."""
        return await scene.cache.get_or_load("f", gates["f"]) == "new"

    await scene.until(tried_again)
    assert gates["f"].calls == 1


@check(stale_while_revalidate=10, others={"negative_ttl": "1h"})
async def a_renewal_that_failed_is_not_tried_again_in_its_negative_window(scene: Scene) -> None:
    await scene.old("a")
    broken = Gate(error=OSError("down"))
    broken.open()
    for _ in range(3):
        assert await scene.cache.get_or_load("a", broken) == "old"
        await scene.counts("load_failures")
    assert broken.calls == 1


@check(stale_while_revalidate=10)
async def a_decorated_function_answers_while_it_renews(scene: Scene) -> None:
    runs = 0

    @scene.cache.cached("n", ttl=scene.unit)
    async def count() -> int:
        nonlocal runs
        runs += 1
        return runs

    assert await count() == 1
    await scene.advance(1.5)
    assert await count() == 1

    async def renewed() -> bool:
        return await count() == 2

    await scene.until(renewed)
    assert runs == 2


# -- stale if error


def fails() -> str:
    raise OSError("down")


async def raised(scene: Scene, key: str = "a", loader: Callable[[], Any] = fails) -> str:
    """What a load raises."""
    try:
        value = await scene.cache.get_or_load(key, loader)
    except (OSError, LoadTimeout) as error:
        return type(error).__name__
    raise AssertionError(f"it gave {value!r}")


@check(stale_if_error=10)
async def a_failed_load_gives_the_last_value(scene: Scene) -> None:
    await scene.old("a")
    assert await scene.cache.get_or_load("a", fails) == "old"
    found = await scene.cache.lookup("a", options=STALE)
    assert isinstance(found, Stale)
    assert 0 < found.expired_for < 10 * scene.unit
    statistics = await scene.statistics()
    assert (statistics.stale_on_error, statistics.load_failures) == (1, 1)
    assert await scene.cache.get_or_load("a", lambda: "new") == "new"


@check(stale_if_error=10)
async def past_its_window_a_failure_is_raised(scene: Scene) -> None:
    await scene.old("a")
    await scene.advance(10)
    assert await raised(scene) == "OSError"
    assert await raised(scene, "b") == "OSError"


@check(stale_if_error=10)
async def a_failure_does_not_bring_back_what_was_invalidated(scene: Scene) -> None:
    cache = scene.cache
    for ended in (cache.invalidate("a"), cache.delete("a"), cache.invalidate_tag("t"), None):
        await scene.old("a", tags=("t",))
        await (cache.clear() if ended is None else ended)
        assert await raised(scene) == "OSError"


@check(stale_if_error=10)
async def what_is_invalidated_while_its_loader_fails_is_not_given(scene: Scene) -> None:
    await scene.old("a")
    gate = Gate(error=OSError("down"))
    caller = asyncio.create_task(scene.cache.get_or_load("a", gate))
    await gate.began.wait()
    await scene.cache.invalidate("a")
    gate.open()
    outcomes = await asyncio.gather(caller, return_exceptions=True)
    assert isinstance(outcomes[0], OSError)


@check(stale_if_error=10, others={"hard_deadline": "20ms"})
async def a_load_past_its_hard_deadline_gives_the_last_value(scene: Scene) -> None:
    await scene.old("a")
    gate = Gate()
    assert await scene.cache.get_or_load("a", gate) == "old"
    assert await raised(scene, "b", Gate()) == "LoadTimeout"
    assert gate.cancelled == 1
    statistics = await scene.statistics()
    assert (statistics.stale_on_error, statistics.load_timeouts) == (1, 2)


@check(stale_if_error=10)
async def of_many_keys_all_or_none_are_given_instead_of_an_error(scene: Scene) -> None:
    def load(keys: list[str]) -> dict[str, str]:
        raise OSError(f"{keys} are down")

    await scene.old("a", "b")
    await scene.cache.set("d", "live")
    assert await scene.cache.get_or_load_many(list("abd"), load) == {
        "a": "old",
        "b": "old",
        "d": "live",
    }
    try:
        await scene.cache.get_or_load_many(list("abc"), load)
    except OSError:
        return
    raise AssertionError("'c' came from nowhere")


@check(stale_if_error=10, others={"negative_ttl": "1h"})
async def the_last_value_is_given_all_through_a_negative_window(scene: Scene) -> None:
    await scene.old("a")
    broken = Gate(error=OSError("down"))
    broken.open()
    assert [await scene.cache.get_or_load("a", broken) for _ in range(3)] == ["old"] * 3
    assert broken.calls == 1
    await scene.cache.invalidate("a")
    assert await raised(scene, "a", broken) == "OSError"


@check(stale_while_revalidate=3, stale_if_error=10)
async def both_windows_have_their_own_length(scene: Scene) -> None:
    await scene.old("a")
    gate = Gate(error=OSError("down"))
    gate.open()
    assert await scene.cache.get_or_load("a", gate) == "old"
    await scene.advance(4)
    assert await scene.cache.get_or_load("a", gate) == "old"
    statistics = await scene.statistics()
    assert (statistics.stale_while_revalidating, statistics.stale_on_error) == (1, 1)
    await scene.advance(6)
    assert await raised(scene, "a", gate) == "OSError"
