"""A Redis for the demo: the one that was named, or a server of our own while it is needed.

A server that nobody named is never used: it may be somebody's. Our own listens on a Unix socket in
a temporary folder, keeps nothing on the disk, and is held by a keeper, a process that ends the
server when we end, whatever ended us. Run as a module, this is that keeper:
``python -m clusterdb.cache.cli.demo.server PROGRAM FOLDER``.
"""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Place", "found_redis"]

_PROGRAMS: Final = ("redis-server", "valkey-server")
_STARTS_WITHIN: Final = 10.0


class Place(msgspec.Struct, frozen=True):
    """Where the Redis is, and what it is in words; without a ``url``, why there is none."""

    url: str
    words: str


@asynccontextmanager
async def found_redis(named: str | None) -> AsyncIterator[Place]:
    """The Redis at ``named``, or one of our own, which ends with the block."""
    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if find_spec("hiredis") is None:
        yield Place("", "Not shown: pip install 'clusterdb-cache[redis]' is missing.")
    elif named:
        yield Place(named, "The server is the one that was named.")
    elif program is None:
        yield Place(
            "",
            "Not shown: there is no redis-server here. Install one (Debian: apt-get install "
            "redis-server), or name one: --redis redis://localhost:6379",
        )
    else:
        with tempfile.TemporaryDirectory(prefix="clusterdb-demo-") as folder:
            keeper = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", __name__, program, folder),
                stdin=PIPE,
                stdout=DEVNULL,
                start_new_session=True,  # an interrupt from the keyboard is ours to act on
            )
            try:
                path = Path(folder) / "redis.sock"
                await _listens(path, keeper)
                words = f"The server is {Path(program).name}, started for this on a Unix socket."
                yield Place(f"unix://{path}", words)
            finally:
                await keeper.communicate(b"")  # the end of its input, and with it the server's


async def _listens(path: Path, keeper: asyncio.subprocess.Process) -> None:
    """Wait until the server takes connections; its socket is there a moment before that."""
    end = time.monotonic() + _STARTS_WITHIN
    while not await _takes_connections(path):
        if keeper.returncode is not None or time.monotonic() > end:
            log = path.parent / "log"
            said = log.read_text(errors="replace")[-200:] if log.exists() else "no log"
            raise RuntimeError(f"the redis-server of the demo did not start: {said}")
        await asyncio.sleep(0.02)


async def _takes_connections(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    writer.close()
    await writer.wait_closed()
    return True


def keep(program: str, folder: str) -> int:
    """Hold a server until our input ends; return its exit code where it ends before that."""
    options = {
        "--port": "0", "--unixsocket": f"{folder}/redis.sock", "--dir": folder,
        "--logfile": f"{folder}/log", "--save": "", "--appendonly": "no",
    }  # fmt: skip
    words = [word for option in options.items() for word in option]
    server = subprocess.Popen(  # noqa: S603 - found on the PATH by its name
        [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        sys.stdin.read()
    finally:
        server.kill()
    return server.wait()


if __name__ == "__main__":
    keep(*sys.argv[1:])
