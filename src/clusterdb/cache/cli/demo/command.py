"""The command itself. What it plays is imported when it does: no other command needs it."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ..output import fail, make_console

__all__ = ["demo"]


def demo(
    seed: Annotated[
        int, typer.Option(help="Which module each key of the trace stands for.", show_default=True)
    ] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same chapters on less data, in a few seconds.")
    ] = False,
    redis: Annotated[
        str | None,
        typer.Option(
            envvar="CLUSTERDB_DEMO_REDIS",
            metavar="URL",
            help="Use this Redis for the chapter of several processes, instead of starting one.",
        ),
    ] = None,
) -> None:
    """Show what the cache does, on real data, in under a minute."""
    from .origin import NoSources
    from .stage import FULL, QUICK
    from .tour import play

    try:
        asyncio.run(play(make_console(), seed, QUICK if quick else FULL, redis))
    except NoSources as error:
        fail(str(error))
        raise typer.Exit(1) from None
