"""The command line, ``cache``. Importing this package needs neither typer nor rich; running does.

Exit codes: 0 all is well, 1 a check failed, 2 wrong usage or a missing extra, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = ("typer", "rich")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; ``argv`` is by default that of the process. Returns the exit code."""
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
