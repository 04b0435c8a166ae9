"""What is left when processes die, stop or lose their servers in the middle of a write."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.write_modes.processes import Worker, spawn
from tests.write_modes.world import World, everywhere, until

from clusterdb.cache import StorageUnavailable
from clusterdb.cache.config import PostgreSQL
from clusterdb.cache.types import MISSING

pytestmark = pytest.mark.process


@everywhere
@pytest.mark.parametrize("point", ["after-fence", "after-commit-before-put"])
async def test_a_writer_that_dies_leaves_nothing_old(
    world: World, workers: list[Worker], point: str
):
    """Whoever reads afterwards reads what the database has, without waiting for a lease."""
    cache = await world.cache("through")
    await cache.set("k", "old")
    assert await cache.get("k") == "old"
    worker = spawn(workers, world, "write_through", do=[["set", "k", "new"]], point=point)
    lines = await asyncio.to_thread(worker.rest)
    assert lines == [["at", point]]
    assert worker.process.returncode == -signal.SIGKILL
    expected = "old" if point == "after-fence" else "new"

    async def right() -> bool:
        return await cache.get("k") == expected and await world.value("k") == expected

    await until(right, f"{expected} everywhere")
    await cache.set("k", "newest")
    assert await world.value("k") == await cache.get("k") == "newest"


@everywhere
async def test_what_was_acknowledged_is_committed(world: World, workers: list[Worker]):
    """I5, I6: at any moment of its death, what a writer was told is in the database."""
    do = [[name, *rest] for at in range(12) for name, *rest in _steps(at)]
    for nth in (3, 8, 15):
        point = "after-commit-before-put"
        worker = spawn(workers, world, "write_through", do=do, point=point, nth=nth)
        lines = await asyncio.to_thread(worker.rest)
        expected: dict[str, Any] = {}
        for kind, name, key, *rest in [line for line in lines if line[0] == "ok"]:
            assert kind == "ok"
            expected[key] = rest[0] if name == "set" else MISSING
        unsure = _steps_flat(do)[len([line for line in lines if line[0] == "ok"])][1]
        for key, value in expected.items():
            if key != unsure:
                assert await world.value(key) == value


def _steps(at: int) -> list[list[Any]]:
    steps: list[list[Any]] = [["set", f"k{at % 4}", at]]
    if at % 3 == 2:
        steps.append(["delete", f"k{(at + 1) % 4}"])
    return steps


def _steps_flat(do: list[list[Any]]) -> list[list[Any]]:
    return [*do, ["none", ""]]


@everywhere
@pytest.mark.parametrize(
    "point", ["after-intent-before-put", "after-flush-before-forget", "in between"]
)
async def test_what_was_accepted_is_written_by_the_next_start(
    world: World, workers: list[Worker], point: str
):
    """A SIGKILL before, in and after a flush: nothing that was accepted is lost, or written twice
    over something newer.
    """
    keys = [f"k{at}" for at in range(20)]
    do = [["set", key, key] for key in keys] + [["delete", "k0"]]
    flush = 30 if point != "after-flush-before-forget" else 0.01
    task: dict[str, Any] = {"do": do, "options": {"flush_interval": flush}, "linger": True}
    if point == "after-intent-before-put":
        task |= {"point": point, "nth": 21}
    elif point == "after-flush-before-forget":
        task |= {"point": point}
    worker = spawn(workers, world, "write_behind", **task)
    lines: list[list[Any]] = []
    while True:
        line = await asyncio.to_thread(worker.line)
        if not line or line[0] == "lingers":
            break
        lines.append(line)
    worker.end()
    accepted = {line[2]: line[1] for line in lines if line[0] == "ok"}
    assert accepted or point == "after-flush-before-forget"
    async with world.make("behind"):
        pass
    for key, name in accepted.items():
        value = await world.value(key)
        assert value == (key if name == "set" else MISSING) or (key == "k0" and value is MISSING)
    assert not list(Path(world.journal).glob("*")), "a journal was left behind"


@everywhere
async def test_a_writer_that_dies_behind_its_cache_leaves_the_new_row(
    world: World, workers: list[Worker]
):
    """The last moment: row and copy are written, and the caller was told."""
    cache = await world.cache("through")
    await cache.set("k", "old")
    assert await cache.get("k") == "old"
    worker = spawn(workers, world, "write_through", do=[["set", "k", "new"]], linger=True)
    assert (await asyncio.to_thread(worker.line))[:3] == ["ok", "set", "k"]
    worker.end()
    assert await world.value("k") == "new"

    async def right() -> bool:
        return await cache.get("k") == "new"

    await until(right, "the new value")


STOPPED = pytest.mark.parametrize(
    ("backend", "storage"),
    [("redis", "sqlite"), ("redis", "postgres"), ("disk", "sqlite"), ("disk", "postgres")],
    indirect=True,
)


@STOPPED
async def test_a_writer_that_wakes_past_its_deadline_commits_nothing(
    world: World, workers: list[Worker]
):
    """A process is stopped behind its fence. PostgreSQL ends its transaction, and others go on; a
    file stays locked, which others are told. Nothing is committed when it wakes, too late.
    """
    impatient = world.be_impatient()
    cache = await world.cache("through", consistency="strong")
    await cache.set("k", "old")
    worker = spawn(
        workers, world, "write_through", do=[["set", "k", "late"]], point="after-fence", how="stop"
    )
    assert await asyncio.to_thread(worker.line) == ["at", "after-fence"]
    await asyncio.to_thread(worker.wait_until_stopped)
    assert await cache.get("k") == "old"
    await asyncio.sleep(impatient + 0.5)
    if isinstance(world.storage_config, PostgreSQL):
        await cache.set("k", "newer")
    else:
        with pytest.raises(StorageUnavailable, match="Is it stopped"):
            await cache.set("k", "refused")
    worker.process.send_signal(signal.SIGCONT)
    [line] = await asyncio.to_thread(worker.rest)
    assert line[0] == "failed"
    assert "StorageUnavailable" in line[-1] or "OutcomeUnknown" in line[-1]
    if not isinstance(world.storage_config, PostgreSQL):
        assert await world.value("k") == "old"
        await cache.set("k", "newer")
    assert await world.value("k") == await cache.get("k") == "newer"


@STOPPED
async def test_a_writer_behind_that_wakes_late_changes_nothing(world: World, workers: list[Worker]):
    """It is stopped with what it has accepted, and puts it into the cache, and writes it, after
    another has written something newer.
    """
    cache = await world.cache("behind")
    worker = spawn(
        workers,
        world,
        "write_behind",
        do=[["set", "k", "older"]],
        options={"flush_interval": 0.01},
        point="after-intent-before-put",
        how="stop",
    )
    assert await asyncio.to_thread(worker.line) == ["at", "after-intent-before-put"]
    await asyncio.to_thread(worker.wait_until_stopped)
    await cache.set("k", "newer")

    async def written() -> bool:
        return await world.value("k") == "newer"

    await until(written, "the flush")
    worker.process.send_signal(signal.SIGCONT)
    lines = await asyncio.to_thread(worker.rest)
    assert [line[0] for line in lines] == ["ok"]
    assert await world.value("k") == "newer"

    async def right() -> bool:
        return await cache.get("k") == "newer"

    await until(right, "the newer copy")


@everywhere
async def test_two_processes_on_one_key(world: World, workers: list[Worker]):
    """I3: when the writes stop, cache and database agree; each writer was told the truth."""
    names = ["a", "b"]
    for name in names:
        spawn(workers, world, "write_through", do=[["set", "k", f"{name}{at}"] for at in range(40)])
    cache = await world.cache("through")
    for at in range(40):
        await cache.set("k", f"c{at}")
        seen = await cache.get("k")
        assert seen is not None
    lines = [await asyncio.to_thread(worker.rest) for worker in workers]
    assert all(line[0] == "ok" for found in lines for line in found)
    last = await world.value("k")
    row = await world.row("k")
    assert row is not None
    assert row.version == 120

    async def agree() -> bool:
        return await cache.get("k") == last

    await until(agree, "the cache to have the last row")
