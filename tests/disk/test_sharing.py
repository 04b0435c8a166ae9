"""Who else has the file open must not matter: other caches of this process, forks, beginners."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.disk.processes import Spawn, check_file, query
from tests.disk.worker import make
from tests.layers import innermost

CHILD = """
there, back = os.pipe()
here, forth = os.pipe()
def child():
    async def use():
        assert await cache.get("parent") == 1
        await cache.set("child", 1)
        os.write(back, b"1")
        os.read(here, 1)
        await cache.set("orphan", 2)
        os.write(back, b"2")
        os.read(here, 1)
        await cache.aclose()
    asyncio.run(use())
    os._exit(0)
import threading
await cache.set("parent", 1)
await cache.get("parent")
"""


async def test_two_caches_of_one_process_hold_the_file(path: Path, spawn: Spawn):
    """A descriptor closed anywhere in a process ends its locks on that file; then another process
    would take itself for the last one, and remove the log that we still write.
    """
    async with make(str(path)) as one, make(str(path)) as two:
        await one.set("before", 1)
        other = spawn()
        assert other.tell("await cache.get('before')") == 1
        assert other.end() == 0
        assert await one.set("after", 2)
        assert await two.get("after") == 2
        assert spawn().tell("await cache.get('after')") == 2


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_a_forked_child_holds_the_file_too(how: str, path: Path, spawn: Spawn):
    """SQLite's picture of the parent's locks must not become the child's."""
    parent = spawn()
    if how == "fork":
        begin = (
            "if (pid := os.fork()) == 0:\n"
            "    thread = threading.Thread(target=child)\n"  # the loop of this one is the parent's
            "    thread.start(); thread.join(); os._exit(1)\n"
        )
    else:
        begin = (
            "import multiprocessing; multiprocessing.current_process()._config['daemon'] = False\n"
            "def start():\n"
            "    thread = threading.Thread(target=child); thread.start(); thread.join()\n"
            "process = multiprocessing.get_context('fork').Process(target=start)\n"
            "process.start(); pid = process.pid\n"
        )
    parent.tell(CHILD + begin + "os.read(there, 1)")
    assert parent.tell("[await cache.get('child'), await cache.get('parent')]") == [1, 1]
    assert parent.tell("await cache.set('more', 1)")
    assert len(query(path, "SELECT pid FROM members")) == 2
    # the parent lets go of the file before its child does
    assert len(list(path.parent.glob("*.sock"))) == 2
    parent.tell("await cache.aclose()")
    assert len(list(path.parent.glob("*.sock"))) == 1
    third = spawn()
    assert third.tell("await cache.get('child')") == 1
    assert parent.tell("os.write(forth, b'x') and os.read(there, 1).decode()") == "2"
    assert third.tell("await cache.get('orphan')") == 2
    assert parent.tell("os.write(forth, b'x') and os.waitpid(pid, 0)[1]") == 0
    assert third.tell("await cache.set('last', 1)")
    assert third.end() == 0
    check_file(path)


def test_a_child_that_only_ends_harms_nobody(path: Path, spawn: Spawn):
    parent = spawn()
    parent.tell("await cache.set('k', 1)")
    parent.tell("pid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)")
    assert len(list(path.parent.glob("*.sock"))) == 1
    assert path.with_name("cache.db-wal").exists()
    other = spawn()
    assert other.tell("await cache.get('k')") == 1
    assert other.end() == 0
    assert parent.tell("await cache.set('after', 2) and await cache.get('after')") == 2
    assert spawn().tell("await cache.get('after')") == 2


def test_forks_amid_writes(path: Path, spawn: Spawn):
    parent = spawn()
    parent.tell(
        "async def write():\n"
        "    for n in range(300):\n"
        "        await cache.set(f'k{n}', n)\n"
        "def child(n):\n"
        "    import threading\n"
        "    def run():\n"
        "        async def use():\n"
        "            await cache.set(f'child{n}', n)\n"
        "            await cache.aclose()\n"
        "        asyncio.run(use()); os._exit(0)\n"
        "    thread = threading.Thread(target=run); thread.start(); thread.join(); os._exit(1)\n"
        "task = asyncio.ensure_future(write())\n"
        "children = []\n"
        "for n in range(8):\n"
        "    await asyncio.sleep(0.002)\n"
        "    pid = os.fork()\n"
        "    if pid == 0: child(n)\n"
        "    children.append(pid)\n"
        "await task\n"
        "statuses = [os.waitpid(pid, 0)[1] for pid in children]"
    )
    assert parent.tell("statuses") == [0] * 8
    assert len(query(path, "SELECT key FROM entries")) == 308
    assert parent.end() == 0
    check_file(path)


def test_many_beginners_make_one_file(path: Path, spawn: Spawn):
    processes = [spawn() for _ in range(6)]
    for process in processes:
        process.tell("1")
    for number, process in enumerate(processes):
        process.start(f"await cache.set('k{number}', {number})")
    assert [process.answer() for process in processes] == [True] * 6
    assert len(query(path, "SELECT key FROM entries")) == 6


# -- one cache, several loops


def test_one_cache_in_one_loop_after_another(path: Path):
    cache = make(str(path))

    async def use(number: int) -> None:
        await cache.set("k", number)
        for _ in range(5):
            assert await cache.get("k") == number

    for number in range(3):
        asyncio.run(use(number))

    async def close() -> Any:
        totals = (await innermost(cache).describe()).regions["default"].totals
        await cache.aclose()
        return totals

    totals = asyncio.run(close())
    assert (totals.hits, totals.sets) == (15, 3)
    check_file(path)


def test_a_child_counts_only_its_own(path: Path, spawn: Spawn):
    parent = spawn()
    parent.tell("await cache.set('k', 1)")
    parent.tell("for _ in range(10): await cache.get('k')")
    parent.tell(
        "import threading\n"
        "def run():\n"
        "    async def use():\n"
        "        await cache.get('k'); await cache.aclose()\n"
        "    asyncio.run(use()); os._exit(0)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    thread = threading.Thread(target=run); thread.start(); thread.join(); os._exit(1)\n"
        "os.waitpid(pid, 0)"
    )
    totals = "(await backend.describe()).regions['default'].totals"
    assert parent.tell(f"totals = {totals}; answer = [totals.hits, totals.sets]") == [11, 1]


def test_a_cache_nobody_closed_ends_with_the_interpreter(path: Path):
    program = (
        "import asyncio, sys; from tests.disk.worker import make\n"
        "cache = make(sys.argv[1])\n"
        "async def use(): await cache.set('k', 1); await cache.get('k')\n"
        "asyncio.run(use())"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program, str(path)],
        capture_output=True, text=True, timeout=20, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "ResourceWarning" in done.stderr
    assert "Traceback" not in done.stderr
    assert query(path, "SELECT key FROM entries") == [("k",)]


async def test_closing_amid_the_opening_leaves_nothing_open(path: Path):
    import threading

    for _ in range(5):
        cache = make(str(path))
        first = asyncio.ensure_future(cache.set("k", 1))
        await asyncio.sleep(0.001)
        await cache.aclose()
        await asyncio.wait({first})
        first.exception()
    names = [thread.name for thread in threading.enumerate()]
    assert "clusterdb-cache-writer" not in names
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "clusterdb-cache-disk"]


def test_a_process_thought_to_be_gone_comes_back(path: Path, spawn: Spawn):
    """Stopped for over a minute it is forgotten, and its socket removed; it then joins again, and
    stays.
    """
    sleeper, other = spawn(), spawn()
    sleeper.tell("await cache.get('k')")
    other.tell("await cache.get('k'); backend._attachment.attached.upkeep._heard = boottime()")
    sleeper.freeze()
    other.tell(
        "backend._attachment.attached._writer.connection.execute("
        f"'UPDATE members SET seen = seen - 100 WHERE pid = {sleeper.pid}').fetchall()"
    )
    other.tell("backend._attachment.attached.upkeep._heard -= 6; await backend.tidy()")
    members = "sorted([m.pid for m in (await backend.describe()).members])"
    assert other.tell(members) == [other.pid]
    sleeper.thaw()
    sleeper.tell("backend._attachment.attached._restore_hints()")
    sleeper.tell("backend._attachment.attached.upkeep._heard -= 6; await backend.tidy()")
    both = sorted([sleeper.pid, other.pid])
    for _ in range(2):
        other.tell("backend._attachment.attached._look_around(); await cache.set('k', 1)")
        other.tell("await backend.tidy()")
        assert other.tell(members) == both
    assert len(list(path.parent.glob("*.sock"))) == 2
