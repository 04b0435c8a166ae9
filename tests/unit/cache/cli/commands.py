"""Running commands: in this process, in another one, and on a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable

import pytest

from clusterdb.cache.cli import main

__all__ = ["Done", "Run", "on_terminal", "program", "runner"]

PROGRAM = [sys.executable, "-m", "clusterdb.cache.cli"]

Done = tuple[int, str, str]
Run = Callable[..., Done]


def runner(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command here: exit code, stdout, stderr."""

    def run(*argv: str) -> Done:
        capsys.readouterr()
        code = main(argv)
        return code, *capsys.readouterr()

    return run


def program(*argv: str, **options: object) -> "subprocess.Popen[str]":
    """A command in a process of its own."""
    return subprocess.Popen(  # type: ignore[call-overload]
        [*PROGRAM, *argv], stdout=-1, stderr=-1, stdin=subprocess.DEVNULL, text=True, **options
    )


def on_terminal(*argv: str, answer: bytes = b"") -> tuple[int, str]:
    """Run a command on a terminal: exit code and what was shown."""
    ours, its = pty.openpty()
    env = os.environ | {"TERM": "xterm"}
    with subprocess.Popen([*PROGRAM, *argv], stdin=its, stdout=its, stderr=its, env=env) as done:
        os.close(its)
        os.write(ours, answer)
        shown = b""
        while part := _read(ours):
            shown += part
    os.close(ours)
    return done.returncode, shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody has the other end open any more
        return b""
