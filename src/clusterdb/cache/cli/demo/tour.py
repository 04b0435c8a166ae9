"""The chapters in their order, between a head and a foot."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table

from ..installation import build, python, version
from . import closing, latency, policies, race, restart, shared, stampede, tagging, updates
from .chapter import Chapter
from .figures import count, duration
from .stage import Size, Stage, set_up
from .trace import ATTRIBUTION

__all__ = ["CHAPTERS", "play"]

CHAPTERS: Final[tuple[Chapter[Any], ...]] = (
    latency.CHAPTER,
    policies.CHAPTER,
    tagging.CHAPTER,
    stampede.CHAPTER,
    updates.CHAPTER,
    race.CHAPTER,
    restart.CHAPTER,
    shared.CHAPTER,
    closing.CHAPTER,
)


async def play(console: Console, seed: int, size: Size, redis: str | None) -> None:
    """Play all chapters; ``redis`` is the URL of a server that the user named."""
    started = time.perf_counter()
    async with set_up(console, seed, size, redis) as stage:
        _open(stage, seed)
        for number, chapter in enumerate(CHAPTERS, 1):
            await chapter.play(stage, number)
    console.print()
    console.rule(align="left")
    spent = duration(time.perf_counter() - started)
    console.print(f"All of it was measured in this run, in {spent}. {ATTRIBUTION}", style="dim")


def _open(stage: Stage, seed: int) -> None:
    """Say what runs on what."""
    modules = stage.origin.modules
    lines = sum([module.lines for module in modules])
    kinds = " and ".join(sorted(set(build().values())))
    grid = Table.grid(padding=(0, 2))
    grid.add_row(
        "Origin",
        f"the sources of the standard library: {count(len(modules))} modules, {count(lines)} "
        "lines; each is parsed and analysed on demand",
    )
    grid.add_row(
        "Requests",
        f"in the order of a real trace: {count(len(stage.trace))} requests, "
        f"{count(len(set(stage.trace)))} keys",
    )
    grid.add_row(
        "Mapping",
        f"key k of the trace asks for module k mod {len(modules)} of a list shuffled with "
        f"seed {seed}",
    )
    head = f"[bold]ClusterDB Cache {version()}[/] on {python()}, hot modules {kinds}\n"
    stage.console.print(Panel(Group(head, grid), width=min(stage.console.width, 100)))
