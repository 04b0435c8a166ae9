"""Processes that share a cache file: started, told what to do, stopped, continued and killed."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tests.disk.worker import serve

__all__ = ["Failed", "Process", "Spawn", "check_file", "query"]

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.disk.worker"])


class Failed(Exception):
    """An error in the other process: its type's name and its text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class Process:
    """One process with a cache on ``path``, forked from one that has imported it all."""

    def __init__(self, path: Path, **disk: Any) -> None:
        ours, theirs = socket.socketpair()
        self._process = _CONTEXT.Process(target=serve, args=(theirs, str(path), disk), daemon=True)
        self._process.start()
        theirs.close()
        self._lines = ours.makefile("rw")
        ours.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def start(self, code: str) -> None:
        """Tell it to do something; :meth:`answer` waits for that."""
        self._lines.write(json.dumps(code) + "\n")
        self._lines.flush()

    def answer(self) -> Any:
        """What the oldest thing it was told to do gave. Raises :class:`Failed`."""
        line = self._lines.readline()
        if not line:
            raise Failed("Ended", f"with {self.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise Failed(reply["error"], reply["text"])
        return reply["value"]

    def tell(self, code: str) -> Any:
        """Tell it to do something, and wait."""
        self.start(code)
        return self.answer()

    def freeze(self) -> None:
        """Stop it where it is; when this returns it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        while "T (" not in Path(f"/proc/{self.pid}/status").read_text():
            time.sleep(0.001)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int | None:
        """Wait for its end; its exit status."""
        self._process.join(20)
        return self._process.exitcode

    def kill(self) -> None:
        """End it at once, without a word."""
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        with contextlib.suppress(OSError):
            self._lines.close()

    def end(self) -> int | None:
        """Let it close its cache and end; its exit status."""
        self._lines.close()
        return self.wait()


Spawn: TypeAlias = Callable[..., Process]


def query(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a file by another process: to open and close it here would end the locks of our own
    connections.
    """
    program = (
        "import json, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "print(json.dumps(db.execute(sys.argv[2]).fetchall(), default=repr))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), sql], capture_output=True, text=True, check=True
    )
    return [tuple(row) for row in json.loads(done.stdout)]


def check_file(path: Path) -> None:
    """The file is sound, and its totals are those of its rows. No process has it open."""
    db = sqlite3.connect(path)
    try:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        for region, items, weight, cleared in db.execute(
            "SELECT id, items, weight, cleared FROM regions"
        ).fetchall():
            rows = db.execute(
                "SELECT count(*), coalesce(sum(weight), 0) FROM entries"
                " WHERE region = ? AND written > ?",
                (region, cleared),
            ).fetchone()
            assert (items, weight) == rows
    finally:
        db.close()
