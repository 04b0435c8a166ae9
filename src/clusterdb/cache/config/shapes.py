"""What a setting may hold, derived once from its type annotation, and the check of one value.

Both doors use it: a struct built in code checks its fields (`settings.Settings`), and a file is
read key by key (`tree`). So code and file accept the same and refuse with the same words.
`accept` raises `ConfigError` whose message starts with the path it was given.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType, NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Self,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from ..errors import ConfigError, InvalidArgument
from .secrets import shown

__all__ = [
    "FromVariable",
    "Shape",
    "StructClass",
    "accept",
    "fields_of",
    "folded",
    "join",
    "kind_of",
    "nearest",
    "refusal",
]

StructClass: TypeAlias = type[msgspec.Struct]

_EXPECTED: Final = re.compile(r"Expected `(\w+)`( [<>]=? [^ ,]+)?(?:, got .*)?", re.DOTALL)
_WORDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
}


class FromVariable(str):  # noqa: SLOT000 - it holds one attribute
    """Text that came from ``${VAR}``: it may stand for a number, and shows as it was written."""

    written: str

    def __new__(cls, value: str, written: str) -> Self:
        """Hold `value`; show `written`."""
        held = super().__new__(cls, value)
        held.written = written
        return held

    def __repr__(self) -> str:
        """Return the text of the file, never the variable's value."""
        return repr(self.written)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What one setting may hold: a scalar, one of some words, a struct of some kind, a list."""

    scalar: Any = None
    choices: tuple[str, ...] = ()
    structs: Mapping[str, StructClass] = field(default_factory=dict)
    items: Shape | None = None
    read: Callable[[Any], Any] | None = None
    optional: bool = False
    unset: bool = False
    secret: bool = False

    @property
    def tagged(self) -> bool:
        """Whether a ``type`` key chooses among kinds."""
        return bool(self.structs) and "" not in self.structs


@lru_cache(maxsize=256)
def fields_of(cls: StructClass) -> Mapping[str, Shape]:
    """Return the fields of a struct class with what each may hold."""
    hints = get_type_hints(cls, include_extras=True)
    return MappingProxyType({name: _shape(hints[name]) for name in cls.__struct_fields__})


def kind_of(cls: StructClass) -> str:
    """Return the word that chooses this kind in a file, "" for a struct that is no kind."""
    return str(cls.__struct_config__.tag or "")


def _shape(hint: Any) -> Shape:
    """Return the shape of a type annotation."""
    members = _members(hint)
    options: dict[str, Any] = {
        "optional": NoneType in members,
        "unset": msgspec.UnsetType in members,
    }
    rest = [member for member in members if member not in (NoneType, msgspec.UnsetType)]
    extra = _extra(rest[0])
    options |= {"read": extra.get("read"), "secret": extra.get("secret", False)}
    if all(isinstance(member, type) and issubclass(member, msgspec.Struct) for member in rest):
        return Shape(structs={kind_of(member): member for member in rest}, **options)
    if get_origin(rest[0]) is Literal:
        return Shape(choices=get_args(rest[0]), **options)
    if get_origin(rest[0]) is tuple:
        return Shape(items=_shape(get_args(rest[0])[0]), **options)
    return Shape(scalar=Union[tuple(rest)], **options)  # noqa: UP007 - built from a list


def _members(hint: Any) -> list[Any]:
    """Return the members of a union, or the hint itself."""
    return list(get_args(hint)) if get_origin(hint) in (Union, UnionType) else [hint]


def _extra(hint: Any) -> Mapping[str, Any]:
    """Return what a field's `msgspec.Meta` says beyond its type."""
    if get_origin(hint) is Annotated:
        for note in hint.__metadata__:
            if isinstance(note, msgspec.Meta) and note.extra:
                return note.extra
    return {}


def accept(value: Any, shape: Shape, path: str) -> Any:
    """Return `value` in the form that is held, or raise `ConfigError` naming `path`."""
    if (value is None and shape.optional) or (value is msgspec.UNSET and shape.unset):
        return value
    if shape.structs:
        return _accept_struct(value, shape, path)
    if shape.items is not None:
        return _accept_items(value, shape.items, path)
    if shape.choices:
        return _accept_choice(value, shape.choices, path)
    return _accept_scalar(value, shape, path)


def _accept_struct(value: Any, shape: Shape, path: str) -> Any:
    if not isinstance(value, tuple(shape.structs.values())):
        names = " or ".join(cls.__name__ for cls in shape.structs.values())
        raise refusal(path, f"{names}(...)", value)
    return value


def _accept_items(value: Any, items: Shape, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise refusal(path, "a list", value, secret=items.secret)
    return tuple(accept(item, items, f"{path}[{at}]") for at, item in enumerate(value))


def _accept_choice(value: Any, choices: tuple[str, ...], path: str) -> str:
    known = {folded(choice): choice for choice in choices}
    if not isinstance(value, str) or folded(value) not in known:
        near = nearest(value, choices) if isinstance(value, str) else ""
        raise refusal(path, "one of " + ", ".join(choices), value, hint=near)
    return known[folded(value)]


def _accept_scalar(value: Any, shape: Shape, path: str) -> Any:
    """Read a number, a text, a duration, a size. Text from a variable may stand for a number."""
    from_variable = isinstance(value, FromVariable)
    try:
        if shape.read is not None:
            return shape.read(value)
        plain = str(value) if from_variable else value
        return msgspec.convert(plain, shape.scalar, strict=not from_variable)
    except msgspec.ValidationError as error:
        hint = "put it in quotes" if shape.scalar is str and isinstance(value, (int, float)) else ""
        expected = _expected(str(error))
        raise refusal(path, expected, value, hint=hint, secret=shape.secret) from None
    except InvalidArgument as error:
        raise ConfigError(f"{path}: {error}", path=path) from None


def _expected(message: str) -> str:
    """Return what was expected in plain words, from the message of a refused conversion."""
    found = _EXPECTED.fullmatch(message)
    return f"{_WORDS.get(found[1], found[1])}{found[2] or ''}" if found else "another value"


def refusal(
    path: str, expected: str, value: object, *, hint: str = "", secret: bool = False
) -> ConfigError:
    """Return the error for a value that is not what was expected."""
    message = f"{path}: expected {expected}, got {shown(value, secret=secret)}"
    return ConfigError(f"{message} - {hint}" if hint else message, path=path)


def join(path: str, key: str) -> str:
    """Return the path of `key` under `path`, fit to print; an absurdly long key is cut."""
    key = key if key.isprintable() else repr(key)[1:-1]
    key = key if len(key) <= 80 else f"{key[:77]}..."
    return f"{path}.{key}" if path else key


def folded(word: str) -> str:
    """Return a word as choices are compared: ``MessagePack``, ``message_pack`` are the same."""
    return word.casefold().replace("_", "").replace("-", "")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint at the nearest of the known words, or the list of them if none is near."""
    words = sorted(known)
    by_fold = {folded(each): each for each in words}
    close = difflib.get_close_matches(folded(word[:100]), by_fold, n=1, cutoff=0.6)
    return f"did you mean {by_fold[close[0]]!r}?" if close else "known: " + ", ".join(words)
