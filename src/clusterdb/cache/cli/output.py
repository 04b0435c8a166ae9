"""What commands write: tables and JSON to stdout, errors as one line to stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

__all__ = ["fail", "make_console", "plain_table", "print_json"]


def make_console() -> Console:
    """A console on stdout: no colour, animation or width but 80 where there is no terminal.

    An output that can't show a character shows a question mark instead of failing.
    """
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Console(highlight=False, emoji=False)


def plain_table(*columns: str, texts: int = 1) -> Table:
    """A table with a line under its head; the first ``texts`` columns are text, others figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < texts else "right", overflow="fold")
    return table


def print_json(value: Any) -> None:
    """Write a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def fail(message: str) -> None:
    """Write one line to stderr."""
    line = " ".join(message.split())
    sys.stderr.write(f"cache: {line}\n")
