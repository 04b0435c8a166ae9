"""Whether a value is what a caller asked for by ``type=``.

A backend that keeps objects gives back what was stored. Where that is not an instance of the type
asked for, a typed program would go on with a wrong value: it is refused instead.
"""

from __future__ import annotations

import types
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin, is_typeddict

from .errors import InvalidArgument, TypeMismatch
from .keys import shown

__all__ = ["fits", "require_type"]


def require_type(key: str, value: object, wanted: Any) -> None:
    """Raise :class:`TypeMismatch` unless ``value`` is an instance of ``wanted``.

    Type parameters are not looked into; an int is accepted as a float.
    """
    try:
        classes = _classes(wanted)
    except TypeError:
        raise InvalidArgument(f"type={shown(wanted)} is no type") from None
    if classes is not None and not isinstance(value, classes):
        name = getattr(wanted, "__qualname__", None) or str(wanted)
        raise TypeMismatch(
            f"{key!r} holds a {type(value).__qualname__}, and {name} was asked for; "
            f"ask for the type that is stored under this key"
        )


def fits(value: object, wanted: Any) -> bool:
    """Whether ``value`` is an instance of ``wanted``, as :func:`require_type` sees it."""
    try:
        require_type("", value, wanted)
    except TypeMismatch:
        return False
    return True


@lru_cache(maxsize=512)
def _classes(wanted: Any) -> tuple[type, ...] | None:
    """The classes an instance of ``wanted`` may have; ``None`` where that can't be told."""
    if wanted is None:
        return (type(None),)
    if wanted is Any:
        return None
    if is_typeddict(wanted) or is_typeddict(get_origin(wanted)):
        return (dict,)
    origin = get_origin(wanted)
    if origin is Annotated:
        return _classes(get_args(wanted)[0])
    if origin in (Union, types.UnionType):
        members = [_classes(member) for member in get_args(wanted)]
        if None in members:
            return None
        return tuple([kind for member in members if member is not None for kind in member])
    kind = origin or wanted
    if kind is float:
        return (float, int)
    return (kind,) if isinstance(kind, type) and _can_tell(kind) else None


def _can_tell(kind: type) -> bool:
    """Whether ``isinstance`` can be asked; not for a Protocol that is none at run time."""
    try:
        isinstance(None, kind)
    except TypeError:
        return False
    return True
