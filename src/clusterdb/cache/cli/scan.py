"""``cache scan``."""

from __future__ import annotations

import json as encoder
from typing import Annotated

import typer

from .output import is_terminal, print_line, progress
from .target import AnyRegion, AsJson, ConfigFile, RegionName, Url, on_region

__all__ = ["scan"]


def scan(
    pattern: Annotated[str, typer.Argument(help="A glob: *, ?, [a-z].")] = "*",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="At most so many.", show_default=False)
    ] = None,
    timeout: Annotated[
        str | None, typer.Option("--timeout", help="Give up after: 30s.", show_default=False)
    ] = None,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Show the keys that match a glob, one a line; with --json an object a line."""

    async def work(chosen: AnyRegion) -> None:
        seen = 0
        async for key in chosen.scan(pattern, timeout=timeout):
            print_line(encoder.dumps({"key": key}) if json else key)
            advance(1)
            seen += 1
            if seen == limit:
                return

    with progress("scanning", shown=not is_terminal()) as advance:  # the keys fill a terminal
        on_region(config, url, region, work)
