"""What a process keeps near is never older than ``max_staleness``, whatever gets lost.

Values are numbers that grow; who writes them notes when each was acknowledged, by the clock that
all processes of the machine share, so staleness is exact. The mutants show that the measure would
notice: each takes one guard away in the reading process.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from tests.builds import needs_pure
from tests.disk.processes import Process, Spawn
from tests.disk.worker import boottime, make
from tests.layers import innermost

from clusterdb.cache import GetOptions

BOUND = 0.2
FRESH = GetOptions(consistent=True)

Scenario: TypeAlias = Callable[[Process, Process], float]


def worst(reads: Sequence[Any], writes: Sequence[Any]) -> float:
    """How long after the write of its successor a value was still read, at most."""
    replaced = {number - 1: acknowledged for number, acknowledged in writes}
    return max([last - replaced.get(value, last) for value, _, last in reads])


def plain(reader: Process, writer: Process) -> float:
    """A reader that lets its loop go on, beside a busy writer."""
    writer.tell("await cache.set('k', 0)")
    reader.start(f"await watch(cache, 'k', {3 * BOUND}, 0.001)")
    writes = writer.tell(f"await count_up(cache, 'k', {3 * BOUND}, 0.01)")
    reads = reader.answer()
    return worst(reads, writes)


def hints_are_lost(reader: Process, writer: Process) -> float:
    writer.tell("await cache.set('k', 0)")
    reader.tell("await cache.get('k'); backend._attachment.attached._listen(False)")
    return plain(reader, writer)


def the_loop_is_busy(reader: Process, writer: Process) -> float:
    """Hits never let the loop go on: nobody looks for changes but the hits themselves."""
    writer.tell("await cache.set('k', 0)")
    reader.start(f"await watch(cache, 'k', {4 * BOUND}, None)")
    writes = writer.tell(f"await count_up(cache, 'k', {3 * BOUND}, 0.01)")
    return worst(reader.answer(), writes)


def the_reader_stands_still(reader: Process, writer: Process) -> float:
    """Stopped for longer than the bound; its first read after that must be fresh."""
    writer.tell("await cache.set('k', 0)")
    reader.tell("await watch(cache, 'k', 0.05, None)")
    reader.start(f"await watch(cache, 'k', {4 * BOUND}, None)")
    writes = writer.tell("await count_up(cache, 'k', 0.02, 0.001)")
    reader.freeze()
    until = boottime() + 1.5 * BOUND
    writes += writer.tell(f"await count_up(cache, 'k', 0.05, 0.01, {writes[-1][0] + 1})")
    while boottime() < until:
        time.sleep(0.01)
    reader.thaw()
    return worst(reader.answer(), writes)


def the_writer_dies_before_its_hint(reader: Process, writer: Process) -> float:
    writer.tell("await cache.set('k', 0)")
    reader.tell("await watch(cache, 'k', 0.05, 0.001)")
    reader.start(f"await watch(cache, 'k', {3 * BOUND}, 0.001)")
    writer.start(  # at once, as any other commit would kill it too
        "die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "backend._attachment.attached._writer._committed = die\n"
        "await cache.set('k', 1)"
    )
    assert writer.wait() == -signal.SIGKILL
    died = boottime()
    reads = reader.answer()
    return worst(reads, [[1, died]])


def more_changes_than_the_log_has(reader: Process, writer: Process) -> float:
    writer.tell("await cache.set('k', 0)")
    reader.tell("await watch(cache, 'k', 0.05, 0.001)")
    reader.freeze()
    writer.tell("await cache.set('k', 1)")
    acknowledged = boottime()
    writer.tell("await cache.set_many({f'n{i}': i for i in range(11_500)})")
    reader.thaw()
    reads = reader.tell(f"await watch(cache, 'k', {2 * BOUND}, 0.001)")
    return worst(reads, [[1, acknowledged]])


def a_tag_ends(reader: Process, writer: Process) -> float:
    writer.tell("await cache.set('k', 0, tags=('t',))")
    reader.tell("await watch(cache, 'k', 0.05, 0.001)")
    writer.tell("await cache.invalidate_tag('t')")
    ended = boottime()
    reads = reader.tell(f"await watch(cache, 'k', {2 * BOUND}, 0.001)")
    return worst(reads, [[1, ended]])


def the_region_is_cleared(reader: Process, writer: Process) -> float:
    writer.tell("await cache.set('k', 0)")
    reader.tell("await watch(cache, 'k', 0.05, 0.001)")
    writer.tell("await cache.clear()")
    ended = boottime()
    reads = reader.tell(f"await watch(cache, 'k', {2 * BOUND}, 0.001)")
    return worst(reads, [[1, ended]])


SCENARIOS: list[Scenario] = [
    plain,
    hints_are_lost,
    the_loop_is_busy,
    the_reader_stands_still,
    the_writer_dies_before_its_hint,
    more_changes_than_the_log_has,
    a_tag_ends,
    the_region_is_cleared,
]


@pytest.mark.server
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_nothing_near_is_older_than_the_bound(scenario: Scenario, spawn: Spawn):
    reader, writer = spawn(max_staleness=BOUND), spawn()
    assert scenario(reader, writer) <= BOUND
    assert reader.tell("backend._near.table('default').counters.hits") > 0


ENDLESS = "NearTier._grant = lambda self, region, table: setattr(table, 'lease', 1e12)"
MUTANTS = {
    "drops_nothing": ("NearTier.drop = lambda *a: None", plain),
    "takes_no_hints_and_never_looks": (
        "Attached.poll = lambda self: self._near.renew(self._clock.now())",
        hints_are_lost,
    ),
    "never_lapses": (ENDLESS, the_loop_is_busy),
    "never_lapses_in_sleep": (ENDLESS, the_reader_stands_still),
    "waits_for_hints": (
        f"{ENDLESS}; Attached._work = lambda self: asyncio.sleep(0)",
        the_writer_dies_before_its_hint,
    ),
    "takes_a_gap_for_news": (
        "NearTier.drop_all = lambda self: None",
        more_changes_than_the_log_has,
    ),
    "forgets_tags": ("NearTier.end_tag = lambda *a: None", a_tag_ends),
    "forgets_clear": ("NearTier.clear = lambda *a: None", the_region_is_cleared),
}


@needs_pure
@pytest.mark.server
@pytest.mark.parametrize("name", MUTANTS)
def test_the_measure_notices_a_guard_that_is_missing(name: str, spawn: Spawn):
    patch, scenario = MUTANTS[name]
    reader, writer = spawn(max_staleness=BOUND), spawn()
    reader.tell(
        "from clusterdb.cache.near import NearTier\n"
        "from clusterdb.cache.backends.disk.attached import Attached\n" + patch
    )
    assert scenario(reader, writer) > BOUND


def test_consistent_reads_see_at_once(spawn: Spawn):
    reader, writer = spawn(), spawn()
    reader.tell("from clusterdb.cache import GetOptions; backend._attachment.attached")
    writer.tell("await cache.set('k', 0)")
    assert reader.tell("await cache.get('k')") == 0
    reader.tell("backend._attachment.attached._listen(False)")
    for number in range(1, 20):
        writer.tell(f"await cache.set('k', {number})")
        fresh = "await cache.get('k', options=GetOptions(consistent=True))"
        assert reader.tell(fresh) == number


async def test_two_caches_of_one_process_are_coherent_too(path: Path):
    async with make(str(path)) as one, make(str(path)) as two:
        await one.set("k", 0)
        assert await two.get("k") == 0
        for number in range(1, 50):
            await one.set("k", number)
            assert await two.get("k", options=FRESH) == number
        await one.set("k", "last")
        backend: Any = innermost(two)
        backend._attachment.attached.poll()
        assert await two.get("k") == "last"


async def test_a_value_read_before_a_change_is_not_kept_after_it(path: Path):
    async with make(str(path)) as one, make(str(path)) as two:
        await one.set("k", "old", tags=("t",))
        backend: Any = innermost(two)
        await two.exists("k")
        for change in ("set", "tag", "clear", "gap"):
            [record] = await backend.read("default", ["k"])
            assert record is not None
            assert record.near is not None
            if change == "set":
                await one.set("k", "new", tags=("t",))
            elif change == "tag":
                await one.invalidate_tag("t")
            elif change == "clear":
                await one.clear()
            else:
                backend._near.lapse()
            backend._attachment.attached.poll()
            backend.keep("default", record, "old")
            assert backend._near.read("default", "k", boottime()) is None
            await one.set("k", "old", tags=("t",))
            backend._attachment.attached.poll()


async def test_own_changes_that_nobody_heard_of_yet_are_seen_by_a_look(path: Path):
    """The writing thread may stand still between its commit and the word to the loop."""
    async with make(str(path)) as cache:
        await cache.set("k", "old")
        assert await cache.get("k") == "old"
        backend: Any = innermost(cache)
        attached = backend._attachment.attached
        writer, told, committed = attached._writer, [], asyncio.Event()
        answer, loop = writer._answer, asyncio.get_running_loop()

        def hold_back(*args: Any) -> None:
            told.append(args)
            loop.call_soon_threadsafe(committed.set)

        writer._answer = hold_back
        task = asyncio.ensure_future(cache.set("k", "new"))
        await committed.wait()
        attached.poll()
        assert await cache.get("k") == "new"
        writer._answer = answer
        answer(*told[0])
        assert await task


def test_what_another_process_changed_is_told(spawn: Spawn):
    reader, writer = spawn(max_staleness=BOUND), spawn()
    reader.tell("told = []; await cache.get('k'); backend.follow(told.extend)")
    writer.tell(
        "await cache.set('k', 1, tags=('t',)); await cache.touch('k', 5); await cache.delete('k');"
        "await cache.invalidate('k'); await cache.invalidate_tag('t'); await cache.clear()"
    )
    reader.tell("backend._attachment.attached.poll()")
    kinds = reader.tell("[change.kind for change in told]")
    assert kinds == [
        "set", "touch", "delete", "invalidate", "invalidate_tag", "clear", "clear",
    ]  # fmt: skip
    origin = reader.tell("{change.origin for change in told}.pop()")
    assert origin.endswith(f":{writer.pid}")
    reader.freeze()
    writer.tell("await cache.set_many({f'n{i}': i for i in range(11_500)})")
    reader.thaw()
    reader.tell("backend._attachment.attached.poll()")
    gap = reader.tell("[(change.kind, change.count) for change in told if change.count]")
    assert gap == [["gap", 11_500]]
