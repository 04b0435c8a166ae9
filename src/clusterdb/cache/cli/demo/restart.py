"""Chapter: a process is killed, and the next one starts warm, from a file.

Run as a module, it is that process: ``python -m clusterdb.cache.cli.demo.restart FILE SEED COUNT``
reads COUNT modules through a cache in FILE, says how that went, and waits to be killed.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
from rich.console import RenderableType

from clusterdb.cache import Cache, CacheConfig, Disk

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration
from .origin import Facts, Origin, find_modules
from .stage import Stage

__all__ = ["CHAPTER", "Life", "Restart", "measure"]

_MODULES: Final = 100
_PATIENCE: Final = 60.0


class Life(msgspec.Struct, frozen=True):
    """What one process did before it was killed; ``seconds`` for all modules."""

    loads: int
    modules: int
    seconds: float


class Restart(msgspec.Struct, frozen=True):
    """The first process and the one after it; ``size`` is that of the file, in bytes."""

    lives: list[Life]
    size: int


async def measure(stage: Stage) -> Restart:
    """Two processes, one after the other, on one file."""
    modules = min(_MODULES, stage.size.modules_tallied)
    with tempfile.TemporaryDirectory(prefix="clusterdb-demo-") as folder:
        file = Path(folder) / "cache.db"
        lives = [await _live(file, modules) for _ in range(2)]
        size = sum([path.stat().st_size for path in file.parent.iterdir() if path.is_file()])
    return Restart(lives, size)


async def _live(file: Path, modules: int) -> Life:
    arguments = ["-m", __name__, str(file), "1", str(modules)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _PATIENCE)
    finally:
        process.kill()
        await process.wait()
    return msgspec.json.decode(line, type=Life)


async def _read_modules(file: Path, seed: int, number: int) -> Life:
    origin = Origin(find_modules(seed))
    modules = {module.name: module for module in origin.modules[:number]}
    async with Cache(CacheConfig(backend=Disk(path=file))) as cache:

        @cache.cached("module:{name}", ttl="1h")
        def facts(name: str) -> Facts:
            return origin.load(modules[name])

        started = time.perf_counter()
        for name in modules:
            await asyncio.to_thread(facts, name)
        life = Life(origin.calls, number, time.perf_counter() - started)
        sys.stdout.write(msgspec.json.encode(life).decode() + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)  # until we are killed
    return life


def show(found: Restart) -> Iterable[RenderableType]:
    """A row a process."""
    table = plain_table("", "modules read", "analysed", "time")
    for name, life in zip(("killed (SIGKILL)", "started after it"), found.lives, strict=True):
        table.add_row(name, count(life.modules), count(life.loads), duration(life.seconds))
    yield table
    yield f"The file, {count(found.size // 1000)} kB, keeps every write that was acknowledged."


CHAPTER = Chapter(
    title="Restart",
    about=(
        "The same through a cache in a file: a process reads modules and is killed without "
        "warning; the next one asks for the same modules."
    ),
    measure=measure,
    show=show,
)

if __name__ == "__main__":
    asyncio.run(_read_modules(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
