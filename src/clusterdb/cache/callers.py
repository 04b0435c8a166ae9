"""Who called: the nearest frame outside this package, for messages that point at user code."""

from __future__ import annotations

import sys
from typing import Final

__all__ = ["caller"]

_OURS: Final = ("clusterdb.cache", "asyncio", "contextlib")


def caller() -> tuple[str, int]:
    """File and line of the code that called into the package, in this thread."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() may give None
    while frame.f_back is not None:
        if not frame.f_globals.get("__name__", "").startswith(_OURS):
            break
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
