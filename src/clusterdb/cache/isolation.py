"""What callers of a backend that keeps objects may do to each other through a shared value.

``share``: all get the same object, and must not change it. ``copy``: each caller gets a copy of
its own, and so does the cache. ``check``: as ``share``, but each value is fingerprinted when it is
stored and again when it is read; a change raises :class:`SharedValueMutated`, which names the
places that were given the value since. For tests: it costs a walk over the value each time.

Values that can't be changed (numbers, strings, None and the like) pass through untouched.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from .attributes import attributes
from .errors import SharedValueMutated

__all__ = ["Isolation", "isolation"]

Isolation: TypeAlias = tuple[Callable[[object], object], Callable[[str, object], object]]
"""``(enter, leave)``: what is done to a value on its way in, and on its way out."""

_IMMUTABLE: Final = frozenset({str, bytes, int, float, bool, complex, type(None)})
_MAX_SUSPECTS: Final = 8
_SCALARS: Final = (str, bytes, int, float, complex, bool, type(None))


def isolation(mode: Literal["share", "copy", "check"]) -> Isolation | None:
    """The pair for a mode; ``None`` for ``share``, which does nothing."""
    return {"share": None, "copy": (_copied, _copied_out), "check": (_sealed, _unsealed)}[mode]


def _copied(value: object) -> object:
    return value if type(value) in _IMMUTABLE else copy.deepcopy(value)


def _copied_out(key: str, value: object) -> object:
    del key
    return _copied(value)


class _Sealed:
    """A shared value with its fingerprint and the callers that were given it."""

    __slots__ = ("fingerprint", "suspects", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self.fingerprint = _fingerprint(value)
        self.suspects: list[str] = [_caller()]


def _sealed(value: object) -> object:
    return value if type(value) in _IMMUTABLE else _Sealed(value)


def _unsealed(key: str, stored: object) -> object:
    if not isinstance(stored, _Sealed):
        return stored
    if _fingerprint(stored.value) != stored.fingerprint:
        raise SharedValueMutated(key, stored.suspects)
    caller = _caller()
    if caller not in stored.suspects:
        stored.suspects = [*stored.suspects, caller][-_MAX_SUSPECTS:]
    return stored.value


def _caller() -> str:
    """``file:line`` of the nearest frame outside this package and asyncio."""
    frame = sys._getframe(1)  # noqa: SLF001 - inspect.currentframe() may give None
    while frame.f_back is not None:
        module = frame.f_globals.get("__name__", "")
        if not module.startswith(("clusterdb.cache", "asyncio", "contextlib")):
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _fingerprint(value: object) -> int:
    """A hash of the value's structure: equal while nothing inside it was changed."""
    return hash(_shape(value, {}))


def _shape(value: object, seen: dict[int, int]) -> object:
    if isinstance(value, _SCALARS):
        return (type(value).__name__, "nan" if value != value else value)  # noqa: PLR0124
    if id(value) in seen:
        return ("again", seen[id(value)])
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        items: object = tuple([(_shape(k, seen), _shape(v, seen)) for k, v in value.items()])
    elif isinstance(value, list | tuple):
        items = tuple([_shape(member, seen) for member in value])
    elif isinstance(value, set | frozenset):
        items = frozenset([_shape(member, dict(seen)) for member in value])
    elif isinstance(value, bytearray):
        items = bytes(value)
    else:
        items = tuple([(name, _shape(field, seen)) for name, field in attributes(value)])
    return (type(value).__qualname__, items)
