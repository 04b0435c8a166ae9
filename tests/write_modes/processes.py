"""Processes that write through caches, and are killed or stopped in the middle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.write_modes.world import World

from clusterdb.cache.config import Disk, Memory, PostgreSQL, Redis, SQLite

__all__ = ["ROOT", "Worker", "as_file", "spawn"]

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """A process of :mod:`tests.write_modes.worker`; ``under`` is a program that runs it."""

    def __init__(self, task: dict[str, Any], under: Sequence[str] = ()) -> None:
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "tests.write_modes.worker", json.dumps(task)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )

    def line(self) -> list[Any]:
        """The next line, or nothing at its end."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else []

    def rest(self) -> list[list[Any]]:
        """All lines until its end."""
        lines = []
        while line := self.line():
            lines.append(line)
        self.process.wait()
        return lines

    def wait_until_stopped(self) -> None:
        """Return once it is stopped: it says so just before, and a SIGCONT that comes between is
        lost.
        """
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def as_file(world: World, mode: str, **options: Any) -> dict[str, Any]:
    """The world's configuration as a mapping, for another process."""
    backend, storage = world.backend, world.storage_config
    if isinstance(backend, Memory):
        cached: dict[str, Any] = {"type": "memory"}
    elif isinstance(backend, Disk):
        cached = {"type": "disk", "path": backend.path}
    else:
        assert isinstance(backend, Redis)
        cached = {"type": "redis", "urls": list(backend.urls)}
        cached |= {"pool": {"timeout": backend.pool.timeout}, "cluster": backend.cluster}
        if backend.sentinel is not None:
            cached |= {"sentinel": {"master": backend.sentinel.master}}
    if isinstance(storage, SQLite):
        rows: dict[str, Any] = {"type": "sqlite", "path": storage.path, "timeout": storage.timeout}
    else:
        assert isinstance(storage, PostgreSQL)
        rows = {"type": "postgresql", "url": storage.url}
        rows |= {"pool": {"timeout": storage.pool.timeout}}
    if mode == "write_behind":
        options.setdefault("journal", world.journal)
    replication = options.pop("replication", None)
    coherence = {"mode": {"type": mode, "backend": rows, **options}}
    if replication is not None:
        coherence["replication"] = msgspec.to_builtins(replication)
    return {"cache": {"name": "world", "backend": cached}, "coherence": coherence}


def spawn(
    workers: list[Worker], world: World, mode: str, under: Sequence[str] = (), **task: Any
) -> Worker:
    options = task.pop("options", {})
    worker = Worker({"config": as_file(world, mode, **options), **task}, under)
    workers.append(worker)
    return worker
