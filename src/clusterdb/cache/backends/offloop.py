"""Work that blocks, kept out of the event loop as long as there are threads.

At the end of the interpreter no thread can be started any more, and a cache that is closed then has
nobody else to wait for: the work is done where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["off_loop"]

R = TypeVar("R")


async def off_loop(function: Callable[..., R], *arguments: Any) -> R:
    """The result of a function that blocks."""
    loop = asyncio.get_running_loop()
    try:
        future = loop.run_in_executor(None, function, *arguments)
    except RuntimeError:  # the interpreter is ending
        return function(*arguments)
    return await future
