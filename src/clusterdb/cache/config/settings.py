"""The base of all configuration structs: frozen, keyword-only, checked when built.

Building one checks every field against its annotation and puts it into the form that is held, so
that a struct made in code equals one read from a file, and a wrong one never exists. Rules between
fields go into `_check`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import ConfigError
from .secrets import MASK, masked
from .shapes import accept, fields_of

__all__ = ["Settings", "require"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen group of settings. Raises `ConfigError` when a value breaks a rule."""

    def __post_init__(self) -> None:
        """Check every field and hold it in its final form."""
        for name, shape in fields_of(type(self)).items():
            given = getattr(self, name)
            held = accept(given, shape, name)
            if held is not given:
                msgspec.structs.force_setattr(self, name, held)
        self._check()

    def _check(self) -> None:
        """Check rules between fields; raise `ConfigError` through `require`."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the fields for a readable display; secrets are masked, unset fields left out."""
        shown = []
        for name, shape in fields_of(type(self)).items():
            value = getattr(self, name)
            if value is not msgspec.UNSET:
                holds = shape.items or shape
                masks = holds.secret and bool(value)
                shown.append((name, MASK if masks else _without_credentials(value)))
        return shown

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({inner})"


def require(holds: bool, field: str, message: str) -> None:
    """Raise `ConfigError` for `field` unless the rule holds."""
    if not holds:
        raise ConfigError(f"{field}: {message}", path=field)


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, tuple):
        return tuple(_without_credentials(item) for item in value)
    return value
