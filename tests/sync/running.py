"""Threads that report their outcome, and scripts in a process of their own."""

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clusterdb.cache

__all__ = ["Work", "script"]

SOURCES = Path(clusterdb.cache.__file__).parents[2]


class Work:
    """A function at work in a thread; ``result()`` waits for it and gives or raises its outcome."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.value: Any = None
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.value = self.function()
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self.error = error

    def result(self) -> Any:
        self.thread.join(30)
        assert not self.thread.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.value


def script(text: str, *options: str) -> str:
    """Run a script in a fresh interpreter that takes every warning as an error; what it printed.
    It must end well and write nothing to its standard error.
    """
    path = f"import sys; sys.path.insert(0, {str(SOURCES)!r})\n"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", *options, "-c", path + textwrap.dedent(text)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr == "", done.stderr
    assert done.returncode == 0
    return done.stdout
