"""Where in a value the part is that has no bytes.

Runs after an encode failed: it goes down to a part that fails by itself while none of its own parts
does. Each step encodes the parts of one object anew, which only a failure has to pay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from typing import Any, Final

import msgspec

from ..errors import EncodeError
from ..keys import shown

__all__ = ["fault", "parts"]

_FARTHEST: Final = 200
"""How far down a part is looked for."""


def fault(value: Any, error: Exception, encode: Callable[[Any], object]) -> EncodeError:
    """The error that names the part of ``value`` for which ``encode`` raises."""
    path, above = "$", {id(value)}
    for _ in range(_FARTHEST):
        found = _first(value, encode)
        if found is None:
            return EncodeError(path, type(value).__qualname__, _reason(error))
        step, value, error = found
        path += step
        if id(value) in above:
            return EncodeError(path, type(value).__qualname__, "it contains itself")
        above.add(id(value))
    return EncodeError(f"{path[:80]}...", type(value).__qualname__, _reason(RecursionError()))


def _first(value: Any, encode: Callable[[Any], object]) -> tuple[str, Any, Exception] | None:
    """The first part of ``value`` that can't be encoded."""
    for step, part in parts(value):
        try:
            encode(part)
        except Exception as error:  # noqa: BLE001 - it is what is asked for
            return step, part, error
    return None


def parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, each with its step of a path."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield f".<key {shown(key)}>", key
            yield _step(key), each
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        yield from zip([f".{name}" for name in value._fields], value, strict=True)
    elif isinstance(value, (list, tuple)):
        for at, each in enumerate(value):
            yield f"[{at}]", each
    elif isinstance(value, (set, frozenset)):
        for each in value:
            yield "[*]", each
    else:
        for name in _names(value):
            if hasattr(value, name):
                yield f".{name}", getattr(value, name)


def _names(value: Any) -> list[str]:
    kind = type(value)
    if is_dataclass(kind):
        return [field.name for field in dataclass_fields(kind)]
    if isinstance(value, msgspec.Struct):
        return list(kind.__struct_fields__)
    if hasattr(kind, "__attrs_attrs__"):
        return [field.name for field in kind.__attrs_attrs__]
    return list(getattr(kind, "model_fields", ()))


def _step(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{shown(key)}]"


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep; store it as a flat list"
    if isinstance(error, EncodeError):
        return error.reason
    return str(error) or type(error).__name__
