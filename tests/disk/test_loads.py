"""Loads race across processes: one loader a key, and an invalidation wins."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tests.disk.processes import Process, Spawn

LOADER = """
loads = []
async def load():
    loads.append(time.time())
    await asyncio.sleep({seconds})
    return {value!r}
"""


def loader(process: Process, value: object, seconds: float) -> None:
    process.tell(LOADER.format(value=value, seconds=seconds))


def test_one_process_loads_for_all(spawn: Spawn):
    processes = [spawn() for _ in range(4)]
    for number, process in enumerate(processes):
        loader(process, number, 0.2)
    for process in processes:
        process.start("await asyncio.gather(*[cache.get_or_load('k', load) for _ in range(20)])")
    values = {value for process in processes for value in process.answer()}
    assert len(values) == 1
    assert sum(process.tell("len(loads)") for process in processes) == 1


@pytest.mark.server
@pytest.mark.parametrize("sockets", [True, False])
def test_the_load_of_a_killed_process_is_taken_over(sockets: bool, path: Path, spawn: Spawn):
    slow, quick = spawn(), spawn()
    loader(slow, "slow", 60)
    loader(quick, "quick", 0)
    for process in (slow, quick):
        process.tell("await cache.get('x')")
    quick.tell("backend._attachment.attached._look_around()")
    slow.start("await cache.get_or_load('k', load)")
    while not query_claims(quick):
        time.sleep(0.01)
    slow.kill()
    if sockets:
        began = time.monotonic()
        assert quick.tell("await cache.get_or_load('k', load)") == "quick"
        assert time.monotonic() - began < 3
    else:  # nobody is told: the lease ends
        quick.tell("backend._attachment.attached._hints.abandon()")
        quick.tell("now = backend._clock.now; backend._clock.now = lambda: now() + 3600")
        assert quick.tell("await cache.get_or_load('k', load)") == "quick"


def query_claims(process: Process) -> int:
    read = "backend._attachment.attached.reader.connection.execute"
    found: int = process.tell(f"{read}('SELECT count(*) FROM claims').fetchone()[0]")
    return found


@pytest.mark.parametrize(
    "change",
    ["await cache.invalidate('k')", "await cache.invalidate_tag('t')", "await cache.clear()",
     "await cache.set('k', 'other'); await cache.delete('k')"],
)  # fmt: skip
def test_an_invalidation_wins_over_a_load_elsewhere(change: str, spawn: Spawn):
    one, two = spawn(), spawn()
    one.tell(
        "gate = asyncio.Event(); begun = asyncio.Event(); loads = []\n"
        "async def load():\n"
        "    loads.append(1); begun.set(); await gate.wait(); return 'old'\n"
        "async def late():\n"
        "    return 'new'\n"
        "running = asyncio.ensure_future(cache.get_or_load('k', load, tags=('t',)))\n"
        "await begun.wait()"
    )
    two.tell(change)
    one.tell("backend._attachment.attached.poll()")
    one.start("await cache.get_or_load('k', late, tags=('t',))")
    assert one.answer() == "new"
    one.tell("gate.set()")
    assert one.tell("await running") == "old"
    assert one.tell("await cache.get('k')") == "new"
    assert two.tell("await cache.get('k')") == "new"


def test_news_of_an_older_change_ends_no_claim(spawn: Spawn):
    """A change that came before the claim is heard of after it: the load goes on, may be joined,
    and what it fails to fill is given back.
    """
    one, two = spawn(), spawn()
    one.tell("await cache.get('x'); backend._attachment.attached._listen(False)")
    two.tell("await cache.set('k', 1); await cache.delete('k')")
    one.tell("[claim] = await backend.claim('default', ['k'], (), 30.0)")
    one.tell("backend._attachment.attached.poll()")
    assert one.tell("claim.live()")
    two.tell("await cache.delete('k')")
    one.tell("backend._attachment.attached.poll()")
    assert not one.tell("claim.live()")
    assert two.tell("len(await backend.claim('default', ['k'], (), 30.0))") == 1
    one.tell("await backend.release('default', [claim])")
    assert query_claims(one) == 1


def test_a_claim_that_could_not_be_given_back_is_given_back_later(spawn: Spawn):
    one, two = spawn(timeout=0.1), spawn()
    one.tell("await cache.get('x')")
    one.tell("[claim] = await backend.claim('default', ['k'], (), 30.0)")
    two.tell("await cache.get('x'); db = backend._attachment.attached._writer.connection")
    two.tell("db.execute('BEGIN IMMEDIATE').fetchall()")
    one.tell(
        "from clusterdb.cache import BackendUnavailable\n"
        "try:\n    await backend.release('default', [claim])\n"
        "except BackendUnavailable as error:\n    answer = str(error)"
    )
    two.tell("db.execute('ROLLBACK').fetchall()")
    assert query_claims(two) == 1
    one.tell("await backend.tidy()")
    assert query_claims(two) == 0
