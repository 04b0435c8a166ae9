"""What commands write: results to stdout, errors as one line to stderr.

A terminal obeys what it is sent, and keys and values may hold anything: what goes to one is made
harmless by :func:`safe`. A pipe gets everything as it is. rich is imported where a table or a bar
is drawn, so that the plain commands start without it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "ReaderGone",
    "drop_unwritten",
    "fail",
    "is_terminal",
    "make_console",
    "plain_table",
    "print_json",
    "print_line",
    "progress",
    "safe",
    "write_bytes",
]

_DIRECTIONS: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reorder the text around them."""


class ReaderGone(Exception):
    """Nobody reads our output any more, as behind ``| head``."""


def is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def safe(text: str, keep: str = "") -> str:
    """``text`` with control characters, escape sequences and the like shown instead of obeyed;
    those in ``keep`` stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join([char if char in keep else _shown(char) for char in text])


def _shown(char: str) -> str:
    harmless = not ("\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff")
    if char >= " " and harmless and char not in _DIRECTIONS and char not in "\u2028\u2029":
        return char
    return char.encode("unicode_escape").decode()


def make_console() -> Console:
    """A console on stdout: no colour, animation or width but 80 where there is no terminal.

    An output that can't show a character shows a question mark instead of failing.
    """
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise ReaderGone

    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Output(highlight=False, emoji=False, markup=True)


def plain_table(*columns: str, texts: int = 1) -> Table:
    """A table with a line under its head; the first ``texts`` columns are text, others figures."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < texts else "right", overflow="fold")
    return table


def print_json(value: Any) -> None:
    """Write a value as JSON."""
    _write(json.dumps(value, indent=2) + "\n")


def print_line(line: str, keep: str = "") -> None:
    """Write a line at once, :func:`safe` where stdout is a terminal."""
    _write((safe(line, keep) if is_terminal() else line) + "\n")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def write_bytes(content: bytes) -> None:
    """Write bytes as they are."""
    try:
        sys.stdout.flush()
        rest = memoryview(content)
        while rest:  # an unbuffered stdout may take a part only
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def drop_unwritten() -> None:
    """Forget what stdout would not take: the interpreter would try once more when it ends, and
    complain.
    """
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def fail(message: str) -> None:
    """Write one line to stderr."""
    line = safe(" ".join(message.split()))
    sys.stderr.write(f"cache: {line}\n")


@contextmanager
def progress(text: str, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar on stderr while something long runs, gone when it is done; none without a terminal.

    Gives a function that is told how many steps more are done.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda steps: bar.advance(task, steps)
