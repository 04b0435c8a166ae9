"""``cache completion``: the script that lets a shell complete commands and options."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

__all__ = ["completion"]


class Shell(enum.StrEnum):
    """The shells there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    context: typer.Context,
    shell: Annotated[Shell, typer.Argument(help="The shell.", show_default=False)],
) -> None:
    """Print the completion script of a shell: eval "$(cache completion bash)"."""
    from typer.completion import shell_complete

    command = context.find_root().command
    shell_complete(command, {}, "cache", "_CACHE_COMPLETE", f"source_{shell.value}")
