"""The attributes of any object, whether it keeps them in ``__dict__`` or in ``__slots__``."""

from __future__ import annotations

__all__ = ["attributes"]

_NOT_FIELDS = ("__dict__", "__weakref__")


def attributes(value: object) -> list[tuple[str, object]]:
    """Name and value of each attribute that is set on the object itself."""
    found: list[tuple[str, object]] = list(getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        names = (slots,) if isinstance(slots, str) else slots
        fields = [_mangled(kind, name) for name in names if name not in _NOT_FIELDS]
        found += [(name, getattr(value, name, None)) for name in fields]
    return found


def _mangled(kind: type, name: str) -> str:
    """The name that a private slot really has."""
    if name.startswith("__") and not name.endswith("__"):
        return f"_{kind.__name__.lstrip('_')}{name}"
    return name
