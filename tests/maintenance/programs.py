"""Programs that share a maintained cache: started, stopped, woken and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Program", "eventually"]

WORKER = Path(__file__).with_name("worker.py")
WITHIN = 20.0


def eventually(true: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    end = time.monotonic() + WITHIN
    while not true():
        assert time.monotonic() < end, f"not within {WITHIN} s: {what}"
        time.sleep(0.02)


class Program:
    """One process of :mod:`tests.maintenance.worker`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(config)], stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.name = self.told("ready")

    def told(self, key: str) -> Any:
        """The next line that says this."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            found = json.loads(line)
            if key in found:
                return found[key]
        raise AssertionError(f"the program ended with {self._process.wait()}")

    def leads(self) -> None:
        """Wait until it leads."""
        assert self.told("leads") is True

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        eventually(lambda: "T (" in Path(f"/proc/{self.pid}/status").read_text(), "stopped")

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
