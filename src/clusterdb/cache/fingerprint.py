"""A digest of a value's structure, to find out later whether anything inside it was changed.

Containers are walked without recursion, in the order they iterate, which does not change while
nothing in them does. Other objects are taken apart as copying would (``__reduce_ex__``), so private
slots, deques and arrays count too; functions, classes and what can't be taken apart are told by
identity. Nothing is stored or rebuilt from what is read here.
"""

from __future__ import annotations

import hashlib
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Final

from .attributes import attributes

__all__ = ["fingerprint"]

_SCALARS: Final = frozenset({str, bytes, float, complex, bool, type(None)})
_LISTED: Final = (list, tuple, set, frozenset)
_BY_IDENTITY: Final = (type, FunctionType, BuiltinFunctionType, ModuleType)


def fingerprint(value: object) -> bytes:
    """Equal for two moments between which nothing inside ``value`` changed. O(size)."""
    digest = hashlib.blake2b(digest_size=16)
    numbers: dict[int, int] = {}
    alive: list[object] = []
    todo: list[object] = [value]
    while todo:
        item = todo.pop()
        kind = type(item)
        if kind in _SCALARS:
            token = repr(item)
        elif kind is int:
            token = format(item, "x")
        elif id(item) in numbers:
            token = f"again {numbers[id(item)]}"
        else:
            numbers[id(item)] = len(numbers)
            alive.append(item)  # an id is good only while its object lives
            parts = _parts(item)
            token = f"({len(parts)}" if parts is not None else f"at {id(item)}"
            todo += reversed(parts or [])
        digest.update(f"{kind.__qualname__} {len(token)} {token}\n".encode("utf-8", "replace"))
    return digest.digest()


def _parts(item: object) -> list[object] | None:
    """What an object is made of; ``None`` for one that is told by identity."""
    if isinstance(item, dict) and type(item) is dict:
        return [part for pair in item.items() for part in pair]
    if type(item) in _LISTED:
        return list(item)  # type: ignore[call-overload, no-any-return]
    if isinstance(item, MethodType):
        return [item.__self__, item.__func__]  # itself it is made anew at each access
    if isinstance(item, _BY_IDENTITY):
        return None
    try:
        reduced = item.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - an object may refuse to be copied in any way it likes
        found = attributes(item)
        return [part for pair in found for part in pair] if found else None
    if not isinstance(reduced, tuple) or len(reduced) < 2:
        return None
    _, arguments, *more = reduced
    state, items, pairs = [*more, None, None, None][:3]
    return [arguments, state, list(items or ()), [list(pair) for pair in pairs or ()]]
