"""A plot of horizontal bars, drawn with block characters down to an eighth of a column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from .figures import percent

__all__ = ["Bars", "bar"]

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue")


def bar(share: float, width: int, *, ascii_only: bool = False) -> str:
    """A bar of ``share`` (0 to 1) of ``width`` columns, not padded."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    if ascii_only:
        return "#" * (full + (rest >= 4))
    return _EIGHTHS[8] * full + (_EIGHTHS[rest] if rest else "")


class Bars:
    """Groups of bars: ``(group, [(series, share), ...])``; as wide as the terminal, at most 100."""

    def __init__(self, groups: Iterable[tuple[str, list[tuple[str, float]]]]) -> None:
        self._groups = list(groups)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        titles = max((len(group) for group, _ in self._groups), default=0)
        names = max((len(name) for _, series in self._groups for name, _ in series), default=0)
        width = max(8, min(options.max_width, 100) - titles - names - len("   100.0%  "))
        for number, (group, series) in enumerate(self._groups):
            if number:
                yield Text()
            yield from _lines(group.rjust(titles), series, names, width, options.ascii_only)


def _lines(
    group: str, series: list[tuple[str, float]], names: int, width: int, ascii_only: bool
) -> Iterator[Text]:
    for at, (name, share) in enumerate(series):
        drawn = bar(share, width, ascii_only=ascii_only)
        yield Text.assemble(
            (group if not at else " " * len(group), "bold"),
            f"  {name:<{names}} ",
            (drawn, _COLOURS[at % len(_COLOURS)]),
            f" {percent(share)}",
        )
