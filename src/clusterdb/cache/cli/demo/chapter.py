"""What a chapter of the demo is: a title, a few sentences, a measurement, and how it is shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

import msgspec
from rich.console import RenderableType

from .stage import Stage

__all__ = ["Chapter"]

Found = TypeVar("Found")


class Chapter(msgspec.Struct, Generic[Found], frozen=True, kw_only=True):
    """One chapter. ``show`` turns what ``measure`` found into things that rich can print."""

    title: str
    about: str
    measure: Callable[[Stage], Awaitable[Found]]
    show: Callable[[Found], Iterable[RenderableType]]

    async def play(self, stage: Stage, number: int) -> None:
        """Measure and print."""
        console = stage.console
        console.print()
        console.rule(f"[bold]{number}  {self.title}", align="left")
        console.print(self.about)
        for part in self.show(await self.measure(stage)):
            console.print(part)
