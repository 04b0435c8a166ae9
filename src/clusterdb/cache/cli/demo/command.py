"""The command itself."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from ..output import fail, make_console
from .origin import NoSources
from .stage import FULL, QUICK
from .tour import play

__all__ = ["demo"]


def demo(
    seed: Annotated[
        int, typer.Option(help="Which module each key of the trace stands for.", show_default=True)
    ] = 1,
    quick: Annotated[
        bool, typer.Option("--quick", help="The same chapters on less data, in a few seconds.")
    ] = False,
) -> None:
    """Show what the cache does, on real data, in under a minute."""
    try:
        asyncio.run(play(make_console(), seed, QUICK if quick else FULL))
    except NoSources as error:
        fail(str(error))
        raise typer.Exit(1) from None
