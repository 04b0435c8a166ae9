"""SIGKILL at any point: what was acknowledged is there, and the others go on at once."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from tests.disk.processes import Process, Spawn, check_file

ROUNDS = 6

WRITING = """
async def write(seed):
    draw = random.Random(seed)
    number = 0
    while True:
        number += 1
        keys = [f"{seed}:{number}:{i}" for i in range(draw.randint(1, 5))]
        await cache.set_many({key: os.urandom(draw.randint(1, 9000)) for key in keys})
        if draw.random() < 0.2:
            await cache.delete(keys[0])
            keys = keys[1:]
        if draw.random() < 0.05:
            await cache.invalidate_tag("none")
        for key in keys:
            os.write(acknowledged, (key + "\\n").encode())
acknowledged = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
await asyncio.gather(*[write(SEED + n) for n in range(4)])
"""


@pytest.mark.server
@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_acknowledged_writes_survive_a_kill(synchronous: str, path: Path, spawn: Spawn):
    draw = random.Random(7)
    log = path.with_name("acknowledged")
    log.touch()
    neighbour = spawn(synchronous=synchronous)
    for number in range(ROUNDS):
        writer: Process = spawn(synchronous=synchronous)
        writer.tell("await cache.get('k')")
        writer.start(WRITING.replace("LOG", repr(str(log))).replace("SEED", str(10 * number)))
        size = log.stat().st_size
        while log.stat().st_size == size:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.15)  # the point of the kill is drawn
        writer.kill()
        began = time.monotonic()
        assert neighbour.tell(f"await cache.set('after', {number})")
        assert time.monotonic() - began < 3
    keys = log.read_text().split()
    assert len(keys) > 10 * ROUNDS
    missing = neighbour.tell(f"[k for k in {keys!r} if not await cache.exists(k)]")
    assert missing == []
    assert neighbour.end() == 0
    check_file(path)


def test_the_dead_are_forgotten_and_their_sockets_with_them(path: Path, spawn: Spawn):
    dead, alive = spawn(), spawn()
    dead.tell("await cache.get('k')")
    alive.tell("await cache.get('k')")
    assert len(list(path.parent.glob("*.sock"))) == 2
    alive.tell("backend._attachment.attached._look_around()")
    dead.kill()
    alive.tell("await cache.set('k', 1); await backend.tidy(); await backend.tidy()")
    members = alive.tell("[m.pid for m in (await backend.describe()).members]")
    assert members == [alive.pid]
    assert len(list(path.parent.glob("*.sock"))) == 1
    assert alive.end() == 0
    assert not list(path.parent.glob("*.sock"))
