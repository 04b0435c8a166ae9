"""A disk that is full, read-only, broken or held by somebody who stands still: typed errors that
name the file and the remedy, old data intact, and all is well when the fault ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from tests.disk.processes import Failed, Process, Spawn, check_file

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

TRY = """
from clusterdb.cache import BackendUnavailable, OutcomeUnknown
async def attempt(key, size, times=1):
    done, errors = [], []
    for number in range(times):
        try:
            await cache.set(f"{key}{number}", os.urandom(size))
            done.append(f"{key}{number}")
        except BackendUnavailable as error:
            errors.append([type(error).__name__, str(error)])
    return [done, errors]
async def there(keys):
    return [key for key in keys if await cache.get(key) is not None]
"""


@pytest.mark.skipif(not ROOT or shutil.which("mount") is None, reason="only root may mount")
def test_a_full_disk(tmp_path: Path, spawn: Spawn):
    small = tmp_path / "small"
    small.mkdir()
    process = spawn(path=small / "cache.db")
    process.tell(
        "import ctypes, subprocess\n"
        "assert ctypes.CDLL(None).unshare(0x20000) == 0\n"
        "subprocess.run(['mount', '--make-rprivate', '/'], check=True)\n"
        f"subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=1m', 'none', {str(small)!r}],"
        " check=True)\n" + TRY
    )
    done, errors = process.tell("await attempt('a', 20_000, 100)")
    assert done
    assert {kind for kind, _ in errors} == {"BackendUnavailable"}
    assert str(small / "cache.db") in errors[0][1]
    assert "disk is full" in errors[0][1]
    assert process.tell(f"await there({done!r})") == done
    with pytest.raises(Failed, match="disk is full"):
        process.tell("await cache.set('more', os.urandom(900_000))")
    # the fault ends
    process.tell(f"subprocess.run(['mount', '-o', 'remount,size=8m', {str(small)!r}], check=True)")
    assert process.tell("await attempt('b', 20_000, 50)")[1] == []
    assert process.tell(f"await there({done!r})") == done
    process.tell("await cache.aclose()")
    sound = "import sqlite3; answer = sqlite3.connect(path).execute('PRAGMA integrity_check')"
    assert process.tell(sound + ".fetchall()") == [["ok"]]


def test_a_quota_of_the_process(path: Path, spawn: Spawn):
    process = spawn()
    process.tell(TRY)
    before, _ = process.tell("await attempt('before', 1000, 3)")
    process.tell(
        "import resource\nlimits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))"
    )
    done, errors = process.tell("await attempt('a', 30_000, 20)")
    assert errors
    assert str(path) in errors[0][1]
    assert "quota" in errors[0][1]
    assert process.tell(f"await there({before + done!r})") == before + done
    process.tell("resource.setrlimit(resource.RLIMIT_FSIZE, limits)")
    again, errors = process.tell("await attempt('b', 30_000, 20)")
    assert errors == []
    assert process.tell(f"await there({before + done + again!r})") == before + done + again
    assert process.end() == 0
    check_file(path)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace injects the errors")
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_disk_that_gives_errors(call: str, path: Path, spawn: Spawn):
    process = spawn(synchronous="full")
    process.tell(TRY)
    before, _ = process.tell("await attempt('before', 5000, 20)")
    tracer = subprocess.Popen(
        [
            *["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(process.pid)],
            *["-e", f"trace={call},fsync", "-e", f"inject={call},fsync:error=EIO"],
        ],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 10
        while not traced(process):
            if tracer.poll() is not None or time.monotonic() > deadline:
                pytest.skip("strace may not attach here")
            time.sleep(0.01)
        done, errors = process.tell("await attempt('a', 5000, 5)")
        assert done == []
        assert len(errors) == 5
        assert {kind for kind, _ in errors} <= {"BackendUnavailable", "OutcomeUnknown"}
        assert all(str(path) in text and "disk" in text for _, text in errors)
        assert process.tell(f"await there({before!r})") == before
    finally:
        tracer.terminate()
        tracer.communicate()
    again, errors = process.tell("await attempt('b', 5000, 5)")
    assert errors == []
    assert process.tell(f"await there({before + again!r})") == before + again
    assert process.end() == 0
    check_file(path)


def traced(process: Process) -> bool:
    """Whether every thread of ``process`` has a tracer."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return all("TracerPid:\t0" not in (task / "status").read_text() for task in tasks)


def test_a_read_only_folder(path: Path, spawn: Spawn):
    process = spawn()
    process.tell(TRY + "await cache.set('k', 1); await cache.aclose()")
    if ROOT:
        process.tell("os.setresuid(12345, 12345, 0)")
    folder = path.parent / "closed"
    folder.mkdir(mode=0o755)
    folder.chmod(0o555)
    for above in list(path.parents)[:3]:
        above.chmod(above.stat().st_mode | 0o055)
    process.tell(f"cache = make({str(folder / 'cache.db')!r})")
    [_, [[kind, text]]] = process.tell("await attempt('a', 10)")
    assert kind == "BackendUnavailable"
    assert "Permission denied" in text
    process.tell("await cache.aclose()")


@pytest.mark.parametrize("what", ["file", "filesystem"])
def test_a_read_only_file(what: str, path: Path, spawn: Spawn):
    if what == "filesystem" and not ROOT:
        pytest.skip("only root may mount")
    process = spawn()
    process.tell(TRY + "await cache.set('k', 1); await cache.aclose()")
    folder = str(path.parent)
    if what == "filesystem":
        process.tell(
            "import ctypes, subprocess\nassert ctypes.CDLL(None).unshare(0x20000) == 0\n"
            "subprocess.run(['mount', '--make-rprivate', '/'], check=True)\n"
            f"subprocess.run(['mount', '--bind', {folder!r}, {folder!r}], check=True)\n"
            f"subprocess.run(['mount', '-o', 'remount,ro,bind', {folder!r}], check=True)"
        )
    else:
        path.chmod(0o400)
        if ROOT:
            os.chown(path, 12345, 12345)
            path.parent.chmod(0o1777)
            for above in path.parents:
                if not above.stat().st_mode & 0o001:
                    above.chmod(above.stat().st_mode | 0o055)
            process.tell("os.setresuid(12345, 12345, 0)")
    process.tell(f"cache = make({str(path)!r})")
    [done, [[kind, text]]] = process.tell("await attempt('a', 10)")
    assert (done, kind) == ([], "BackendUnavailable")
    assert str(path) in text
    assert "read-only" in text or "unable to open" in text
    process.tell("await cache.aclose()")


def test_a_process_that_stands_still_with_the_lock(path: Path, spawn: Spawn):
    frozen, other = spawn(), spawn(timeout=0.4)
    other.tell(TRY + "await cache.set('k', 1)")
    frozen.tell("await cache.get('k'); db = backend._attachment.attached._writer.connection")
    frozen.tell("db.execute('BEGIN IMMEDIATE').fetchall()")
    frozen.freeze()
    other.tell(
        "async def beat():\n"
        "    gaps, last = [], time.monotonic()\n"
        "    while not attempted.done():\n"
        "        await asyncio.sleep(0.005)\n"
        "        assert await cache.get('k', options=fresh) == 1\n"
        "        now = time.monotonic(); gaps.append(now - last); last = now\n"
        "    return max(gaps)\n"
        "from clusterdb.cache import GetOptions\nfresh = GetOptions(consistent=True)\n"
        "began = time.monotonic()\n"
        "attempted = asyncio.ensure_future(attempt('a', 10))\n"
        "gap = await beat()\n"
        "outcome = [await attempted, gap, time.monotonic() - began]"
    )
    [[done, [[kind, text]]], gap, seconds] = other.tell("outcome")
    assert (done, kind) == ([], "BackendUnavailable")
    assert f"process {frozen.pid} has held the write lock for over 0.4 s" in text
    assert 0.3 < seconds < 3
    assert gap < 0.35
    problems = other.tell("(await backend.describe()).problems")
    assert problems == [] or str(frozen.pid) in problems[0]
    frozen.thaw()
    frozen.tell("db.execute('ROLLBACK').fetchall()")
    assert other.tell("await attempt('b', 10)") == [["b0"], []]
    assert frozen.tell("await cache.get('b0') is not None")
