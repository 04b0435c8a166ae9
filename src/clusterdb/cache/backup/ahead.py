"""Reading one step ahead: while something is worked on, the next is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TypeVar

__all__ = ["one_ahead"]

T = TypeVar("T")


async def one_ahead(steps: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """The same steps, none of which is ``None``."""
    reading = asyncio.ensure_future(anext(steps, None))
    try:
        while (step := await reading) is not None:
            reading = asyncio.ensure_future(anext(steps, None))
            yield step
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled():
            reading.exception()  # nobody wants to know how it went
        await steps.aclose()
