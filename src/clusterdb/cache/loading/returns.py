"""The type of what a function returns, as its annotation says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["returned_type"]

_ANYTHING: Final = (Any, object)


def returned_type(function: Callable[..., Any], *, many: bool) -> Any:
    """What ``function`` returns, once awaited; of one for ``many`` keys what it maps them to.

    ``None`` where there is no annotation, where it can't be resolved, and where it allows anything.
    ``NoneType`` stands for a function that returns ``None``.
    """
    while isinstance(function, partial):
        function = function.func
    if isinstance(function, type):
        return None if many else function
    if not hasattr(function, "__annotations__"):
        function = getattr(function, "__call__", function)  # noqa: B004 - its own, to look inside
    found = _annotation(function)
    if _is_kind_of(found, Awaitable):
        found = get_args(found)[-1]
    if many:
        arguments = get_args(found) if _is_kind_of(found, Mapping) else ()
        found = arguments[1] if len(arguments) == 2 else None
    return None if found in _ANYTHING or isinstance(found, TypeVar) else found


def _annotation(function: Callable[..., Any]) -> Any:
    """The annotation, resolved where its function was written."""
    try:
        written = function.__annotations__["return"]
    except (AttributeError, KeyError, NameError):
        return None
    inner: Any = getattr(function, "__func__", function)
    while hasattr(inner, "__wrapped__"):
        inner = inner.__wrapped__
    try:
        return get_type_hints(
            SimpleNamespace(__annotations__={"return": written}),
            globalns=getattr(inner, "__globals__", {}),
            localns=_enclosing(inner),
            include_extras=True,
        )["return"]
    except (AttributeError, NameError, SyntaxError, TypeError):
        return None


def _enclosing(function: Any) -> dict[str, Any]:
    """The variables around a closure that it uses."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found: dict[str, Any] = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _is_kind_of(annotation: Any, kind: type) -> bool:
    """Whether ``annotation`` is ``kind`` or a subclass of it, with arguments."""
    origin = get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, kind) and bool(get_args(annotation))
