"""Keys of function calls: different arguments, different keys; equal calls, equal keys.

**Automatic keys** write each argument as a literal that tells its type (``5``, ``5.0``, ``True``
and ``'5'`` differ), containers with what they hold, sets and dictionaries in a canonical order. A
long key ends in a BLAKE2b digest of 256 bits instead. A value without a stable identity, such as an
object that is told by its address, is refused; it may give itself one by ``__cache_key__()``, which
returns any value that can be written.

**Templates** (``"user:{user_id}"``) write plain text. So that no two calls can meet in one key, a
field takes values of one type, its parameter's annotation: ``str``, ``int``, ``UUID`` or ``date``;
``: % { }`` inside a string are written as ``%3A`` and so on, and so is the character that ends its
field in this template (the ``-`` in ``"{country}-{city}"``). Fields that could run into each other,
as in ``"{a}{b}"``, are refused.
"""

from __future__ import annotations

import cmath
import hashlib
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from pathlib import PurePath
from string import Formatter
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from .errors import InvalidArgument
from .keys import shown

__all__ = ["Template", "call_key", "written"]

_LITERALS: Final = frozenset(
    {str, bytes, float, bool, type(None), complex, UUID, date, timedelta, Decimal}
)
_MAX_DEPTH: Final = 32
_DECIMAL_BITS: Final = 256
_MAX_TEXT: Final = 256
_TO_ESCAPE: Final = ":%{}"
_OF_FIXED_LENGTH: Final = (UUID, date)


def call_key(function: str, arguments: Mapping[str, object]) -> str:
    """The key of a call of ``function``, a qualified name, with these arguments by name."""
    parts = [f"{name}={written(name, value)}" for name, value in arguments.items()]
    text = f"{function}({', '.join(parts)})"
    if len(text) <= _MAX_TEXT and text.isascii():
        return text
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32)
    return f"{function}#{digest.hexdigest()}"


def written(name: str, value: Any, above: tuple[int, ...] = ()) -> str:
    """``value`` as a text that no other value has. ``name`` is for the error's message."""
    kind = type(value)
    if kind is int:
        return str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)
    if kind in (float, complex, Decimal) and _is_nan(value):
        raise InvalidArgument(f"{name} is NaN, which is not even equal to itself: no key")
    if kind in _LITERALS:
        return repr(value)
    if kind in (datetime, time) and _has_plain_zone(value):
        return repr(value)
    if isinstance(value, Enum):
        member = value._value_ if isinstance(value, Flag) else value._name_
        return f"enum {kind.__module__}.{kind.__qualname__}.{member}"
    if isinstance(value, type):
        return f"type {value.__module__}.{value.__qualname__}"
    if isinstance(value, PurePath):
        return f"{kind.__name__}({str(value)!r})"
    inner = (*above, id(value))
    if id(value) in above or len(inner) > _MAX_DEPTH:
        raise InvalidArgument(
            f"{name} holds itself, or is nested over {_MAX_DEPTH} deep: no key can be written"
        )
    own_key = getattr(kind, "__cache_key__", None)
    if own_key is not None:
        text = written(name, own_key(value), inner)
        return f"own {kind.__module__}.{kind.__qualname__}<{text}>"
    return _container(name, value, inner)


def _is_nan(value: complex | Decimal) -> bool:
    if isinstance(value, Decimal):
        return value.is_nan()
    return cmath.isnan(value)


def _has_plain_zone(value: datetime | time) -> bool:
    zone = value.tzinfo
    if type(zone) is ZoneInfo:
        return zone.key is not None
    return zone is None or type(zone) is timezone


def _container(name: str, value: Any, above: tuple[int, ...]) -> str:
    kind = type(value)
    if kind is dict:
        pairs = sorted(
            [(written(name, k, above), written(name, v, above)) for k, v in value.items()]
        )
        return "{" + ", ".join([f"{key}: {item}" for key, item in pairs]) + "}"
    if kind in (set, frozenset):
        members = sorted([written(name, member, above) for member in value])
        return f"{kind.__name__}(" + ", ".join(members) + ")"
    if kind in (list, tuple):
        members = [written(name, member, above) for member in value]
        return ("[{}]" if kind is list else "({},)").format(", ".join(members))
    raise InvalidArgument(
        f"{name} is a {kind.__module__}.{kind.__qualname__}, which has no stable identity: give "
        f"the class a __cache_key__() method, or the decorator a template or key= without {name}"
    )


class Template:
    """A text with fields that are parameters, as ``"user:{user_id}"``."""

    def __init__(self, text: str, parameters: Mapping[str, object]) -> None:
        """``parameters``: what may be a field, with its annotation."""
        self.text = text
        self._parts: list[tuple[str, str, type | None]] = []
        self._escapes: dict[int, re.Pattern[str]] = {}
        for literal, field, spec, conversion in _parsed(text):
            if field is None:
                self._parts.append((literal, "", None))
                continue
            if spec or conversion:
                raise InvalidArgument(f"template {text!r}: write {{{field}}} without format")
            if field not in parameters:
                raise InvalidArgument(
                    f"template {text!r} has a field {field!r}; there are: {', '.join(parameters)}"
                )
            self._parts.append((literal, field, _field_type(text, field, parameters[field])))
        for at, (_, _, kind) in enumerate(self._parts):
            if kind is not None:
                after = self._parts[at + 1] if at + 1 < len(self._parts) else ("", "", None)
                self._keep_apart(at, kind, after)

    def _keep_apart(self, at: int, kind: type, after: tuple[str, str, type | None]) -> None:
        """See to it that one can tell where the field at ``at`` ends and the next one begins."""
        literal, following, _ = after
        end = literal[:1] if following else ""
        unclear = {str: end in ("", "%"), int: end == "" or end in "0123456789"}
        if following and kind not in _OF_FIXED_LENGTH and unclear[kind]:
            raise InvalidArgument(
                f"template {self.text!r}: {{{self._parts[at][1]}}} could run into {{{following}}}, "
                f"so that two calls meet in one key: put a ':' between them"
            )
        if kind is str:
            self._escapes[at] = re.compile(f"[{re.escape(_TO_ESCAPE + end)}]")

    @property
    def fields(self) -> tuple[str, ...]:
        """The parameters it uses."""
        return tuple([field for _, field, kind in self._parts if kind is not None])

    def fill(self, arguments: Mapping[str, object]) -> str:
        """The text with its fields filled; raises where one has another type than its own."""
        found = ""
        for at, (literal, field, kind) in enumerate(self._parts):
            found += literal
            if kind is None:
                continue
            value = arguments[field]
            if type(value) is not kind:
                raise InvalidArgument(
                    f"{field}={shown(value)} in template {self.text!r} is a "
                    f"{type(value).__name__}, and the parameter is annotated as {kind.__name__}: "
                    f"pass that, so that no two calls can mean one key"
                )
            text = str(value)
            found += self._escapes[at].sub(_escape, text) if kind is str else text
        return found


def _parsed(text: str) -> list[tuple[str, str | None, str | None, str | None]]:
    try:
        return list(Formatter().parse(text))
    except ValueError as error:
        raise InvalidArgument(f"template {text!r}: {error}") from None


def _field_type(text: str, field: str, annotation: object) -> type:
    for kind in (str, int, UUID, date):
        if annotation is kind or annotation == kind.__name__:
            return kind
    raise InvalidArgument(
        f"template {text!r}: annotate {field} as str, int, UUID or date, not {annotation!r}; "
        f"other types need an automatic key or key="
    )


def _escape(match: re.Match[str]) -> str:
    return "".join([f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass")])
