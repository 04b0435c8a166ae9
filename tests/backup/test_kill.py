"""A process killed in the middle: what it left is seen, harmless, and cleared away."""

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.backup.test_backups import contents

from clusterdb.cache import Disk, UnknownBackup

pytestmark = pytest.mark.process

WORKER = Path(__file__).with_name("worker.py")
HOUR = 3600.0


@contextmanager
def killed(operation: str, place: Path, file: str = "", after: int = 1500):
    """Kill a worker once it has moved so many entries. No temporary file is left of it."""
    command = [sys.executable, str(WORKER), operation, str(place), file]
    temporary = place.with_name("temporary")
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if int(line.split()[1]) >= after:
                    break
        finally:
            process.kill()
        assert process.wait() == -9
    assert not list(temporary.iterdir())
    yield


async def test_a_backup_that_was_killed_is_none_and_its_rest_is_cleared_away(make, place):
    async with make() as cache:
        await cache.set("a", 1)
        good = await cache.backups.create()
        with killed("create", place):
            found = await cache.backups.list()
        assert [each.kind for each in found] == ["full", "unfinished"]
        rest = place / "main" / found[1].id
        assert list(rest.glob("entries-*"))

        assert (await cache.backups.restore(dry_run=True)).backup == good.id
        with pytest.raises(UnknownBackup, match="never finished"):
            await cache.backups.restore(found[1].id)

        # Somebody may be working on what is young.
        assert (await cache.backups.prune()).unfinished == ()
        for path in rest.iterdir():
            os.utime(path, (time.time() - HOUR, time.time() - HOUR))
        assert (await cache.backups.prune()).unfinished == (found[1].id,)

        assert not rest.exists()
        assert (await cache.backups.create()).kind == "full"  # the next starts clean
        assert len(await cache.backups.list()) == 2
        assert await contents(cache) == {"a": 1}


async def test_a_restore_that_was_killed_goes_on_from_there(make, place, tmp_path):
    file = str(tmp_path / "cache.db")
    async with make() as cache:
        await cache.set_many({f"k{at}": at for at in range(5000)})
        await cache.backups.create()

    with killed("restore", place, file):
        async with make(backend=Disk(path=file)) as cache:
            before = await contents(cache)
            assert 1000 <= len(before) < 5000
            assert all(value == int(key[1:]) for key, value in before.items())  # whole
            await cache.set("k0", "newer")

            report = await cache.backups.restore()

            assert report.restored + report.kept == 5000
            assert report.kept >= len(before)
            after = await contents(cache)
            assert len(after) == 5000
            assert after["k0"] == "newer"
