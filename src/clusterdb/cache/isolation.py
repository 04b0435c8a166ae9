"""What callers of a backend that keeps objects may do to each other through a shared value.

``share``: all get the same object, and must not change it. ``copy``: each caller gets a copy of
its own, and so does the cache. ``check``: as ``share``, but each value is fingerprinted when it is
stored and again when it is read; a change raises :class:`SharedValueMutated`, which names the
places that were given the value since. For tests: it costs a walk over the value each time.

Values that can't be changed (numbers, strings, None and the like) pass through untouched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from .callers import caller
from .errors import SharedValueMutated
from .fingerprint import fingerprint

__all__ = ["Isolation", "isolation", "plain"]

Isolation: TypeAlias = tuple[Callable[[object], object], Callable[[str, object], object]]
"""``(enter, leave)``: what is done to a value on its way in, and on its way out."""

_IMMUTABLE: Final = frozenset({str, bytes, int, float, bool, complex, type(None)})
_MAX_SUSPECTS: Final = 8


def isolation(mode: Literal["share", "copy", "check"]) -> Isolation | None:
    """The pair for a mode; ``None`` for ``share``, which does nothing."""
    return {"share": None, "copy": (_copied, _copied_out), "check": (_sealed, _unsealed)}[mode]


def _copied(value: object) -> object:
    return value if type(value) in _IMMUTABLE else copy.deepcopy(value)


def _copied_out(key: str, value: object) -> object:
    del key
    return _copied(plain(value))


class _Sealed:
    """A shared value with its fingerprint and the callers that were given it."""

    __slots__ = ("fingerprint", "suspects", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self.fingerprint = fingerprint(value)
        self.suspects: list[str] = []
        self.suspect()

    def suspect(self) -> None:
        """Remember who has the value now."""
        place = "{}:{}".format(*caller())
        if place not in self.suspects:
            self.suspects = [*self.suspects, place][-_MAX_SUSPECTS:]


def _sealed(value: object) -> object:
    return value if type(value) in _IMMUTABLE else _Sealed(value)


def _unsealed(key: str, stored: object) -> object:
    if not isinstance(stored, _Sealed):
        return stored
    if fingerprint(stored.value) != stored.fingerprint:
        raise SharedValueMutated(key, stored.suspects)
    stored.suspect()
    return stored.value


def plain(stored: object) -> object:
    """A value as the user gave it, whatever the mode it was stored in."""
    return stored.value if isinstance(stored, _Sealed) else stored
