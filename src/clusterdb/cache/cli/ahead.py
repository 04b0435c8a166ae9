"""Options of a cache that stand before the command: ``cache --url URL status``.

They say which cache is meant, and people write such options first. Each command declares those
that it takes (:mod:`.target`), so what stands first is moved behind the command's name, where it is
read, and a command that has no such option refuses it. What a command is given itself comes later,
and counts. Rejected: reading them here and handing them on, past the commands' own signatures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from clusterdb.cache import InvalidArgument

__all__ = ["behind_command"]

_MOVED: Final = ("--config", "--url")


def behind_command(command: Any, argv: Sequence[str]) -> list[str]:
    """The arguments with what stands first moved behind the name of the command, which is one of
    the tree of ``command``. Raises :class:`InvalidArgument` where that does not take it.
    """
    given, rest = _leading(argv)
    path: list[str] = []
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest[0]]
        path.append(rest.pop(0))
    if not given or not path or hasattr(command, "commands"):
        return list(argv)  # no command: the parser tells what is wrong
    taken = [name for each in command.params for name in each.opts if name in _MOVED]
    for name, _ in given:
        if name not in taken:
            raise InvalidArgument(_refusal(" ".join(["cache", *path]), name, taken))
    return [*path, *[word for option in given for word in option], *rest]


def _leading(argv: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Options that stand first, as far as they are ours, and what comes after them."""
    given: list[tuple[str, str]] = []
    rest = list(argv)
    while rest:
        name, joined, value = rest[0].partition("=")
        if name not in _MOVED or (not joined and len(rest) == 1):
            break
        given.append((name, value if joined else rest[1]))
        del rest[: 1 if joined else 2]
    return given, rest


def _refusal(path: str, name: str, taken: Sequence[str]) -> str:
    if taken:
        remedy = f"name its cache by {' or '.join(sorted(taken))}"
    else:
        remedy = "leave it out: what this command works on is no cache, or is named behind it"
    return f"'{path}' takes no {name}: {remedy} (see '{path} --help')"
