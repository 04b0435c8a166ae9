"""The seeded loop keeps asyncio's promises, and draws the rest."""

import asyncio

import pytest
from tests.loads.history import History
from tests.loads.scenarios import SCENARIOS
from tests.loads.schedule import Hang, SeededLoop, run_seeded
from tests.loads.world import World


async def take_turns(names: str, seen: list[str]) -> None:
    async def actor(name: str) -> None:
        for _ in range(3):
            seen.append(name)
            await asyncio.sleep(0)

    await asyncio.gather(*[actor(name) for name in names])


def order(seed: int) -> str:
    seen: list[str] = []
    run_seeded(take_turns("abc", seen), SeededLoop(seed))
    return "".join(seen)


def test_a_seed_gives_one_order_and_others_give_others():
    orders = [order(seed) for seed in range(200)]
    assert orders == [order(seed) for seed in range(200)]
    assert len(set(orders)) > 100
    assert all(sorted(found) == list("aaabbbccc") for found in orders)


def test_a_whole_scenario_replays():
    def history() -> History:
        loop = SeededLoop(5)
        world = World(SCENARIOS["race_any"], loop, 5)
        run_seeded(world.run(), loop)
        return world.history

    assert history().spans == history().spans


def test_callbacks_keep_their_order_and_timers_theirs():
    async def main() -> list[int]:
        loop, seen = asyncio.get_running_loop(), list[int]()
        others = [asyncio.create_task(asyncio.sleep(0)) for _ in range(5)]
        for number in range(10):
            loop.call_soon(seen.append, number)
        for number in (12, 10, 11):
            loop.call_later(number, seen.append, number)
        await asyncio.sleep(20)
        await asyncio.gather(*others)
        assert seen == list(range(13))
        return seen

    for seed in range(20):
        run_seeded(main(), SeededLoop(seed))


def test_time_passes_only_when_nothing_can_run():
    async def main() -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        await asyncio.sleep(0)
        assert loop.time() == started
        await asyncio.sleep(30)
        assert loop.time() == pytest.approx(started + 30)

    run_seeded(main(), SeededLoop(1))


async def wait_for_nothing() -> None:
    await asyncio.Event().wait()


async def run_for_ever() -> None:
    loop = asyncio.get_running_loop()
    while loop.is_running():  # noqa: ASYNC110 - it is to run for ever
        await asyncio.sleep(1)


@pytest.mark.parametrize("scenario", [wait_for_nothing, run_for_ever])
def test_what_would_hang_is_reported(scenario):
    with pytest.raises(Hang):
        run_seeded(scenario(), SeededLoop(1))


def test_what_nobody_caught_is_noted():
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    loop = SeededLoop(1)
    run_seeded(main(), loop)
    assert "ZeroDivisionError" in loop.trouble[0]
