"""The command line, ``cache``. Importing this package needs neither typer nor rich; running does.

Exit codes: 0 done, 1 not found or a check failed, 2 wrong usage or a missing extra, 3 the backend
can't be reached, 4 anything else that failed, 130 interrupted, 141 nobody reads the output any
more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is by default that of the process. Returns the exit code."""
    _replace_closed()
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"cache: the command line needs {' and '.join(missing)}: "
            "pip install 'clusterdb-cache[cli]'",
            file=sys.stderr,
        )
        return 2
    try:
        from .app import run

        return run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("cache: interrupted", file=sys.stderr)
        return 130


def _replace_closed() -> None:
    """Stand in for standard files that were closed before we began (``>&-``): nothing else may get
    their numbers, a cache file least of all.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 - until we end
