"""Values of a program's own types: what msgspec does not know by itself, and errors as ours.

msgspec reads and writes dataclasses, Structs, attrs, TypedDicts, NamedTuples and enums. The hooks
here add models that bring their own methods (``model_dump`` and ``model_validate``, as pydantic's
do, without importing it), subclasses of scalars, and paths; nested ones too.

Reading a payload as a type ends in one of two errors: :class:`Undecodable` for bytes that are no
document of the format, :class:`TypeMismatch` for a document that does not fit the type.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Callable
from functools import lru_cache
from pathlib import PurePath
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, NoReturn, get_args, get_origin

import msgspec

from ..errors import CacheError, TypeMismatch, TypeRequired, Undecodable
from ..keys import shown
from .plain import describe, read_extension

__all__ = [
    "converted",
    "decoding",
    "from_hook",
    "is_model",
    "is_untyped",
    "json_hook",
    "msgpack_hook",
    "refuse",
    "require_type",
    "typed_json",
    "typed_msgpack",
    "untyped",
]

_BASES: Final = (str, int, float, bytes, PurePath)
_EXACT: Final = (bytes, bytearray, memoryview)
"""Never made of text: MessagePack has bytes of its own."""

_VAGUE: Final = frozenset(
    {Any, object, list, dict, tuple, set, frozenset, abc.Sequence, abc.MutableSequence}
    | {abc.Mapping, abc.MutableMapping, abc.Set, abc.MutableSet, abc.Collection, abc.Iterable}
)


def is_model(kind: Any) -> bool:
    """Whether a class writes and reads itself."""
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate")


def msgpack_hook(value: Any) -> Any:
    """What msgspec writes in MessagePack for an object that it does not know."""
    if is_model(type(value)):
        return value.model_dump(round_trip=True)
    if type(value) is complex:
        return describe(value)
    return _base_of(value)


def json_hook(value: Any) -> Any:
    """The same for JSON."""
    if is_model(type(value)):
        return value.model_dump(mode="json", round_trip=True)
    return _base_of(value)


def _base_of(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes.__getitem__(value, slice(None))
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"no form for {type(value).__qualname__}")


def from_hook(kind: Any, given: Any) -> Any:
    """An object of a class that msgspec does not know, of what a hook above made of it."""
    if is_model(kind):
        return kind.model_validate(given, strict=False)
    origin = get_origin(kind) or kind
    if isinstance(given, origin):
        return given
    if issubclass(origin, (list, dict)):
        base = list if issubclass(origin, list) else dict
        items = GenericAlias(base, get_args(kind)) if get_args(kind) else base
        return origin(converted(given, items))
    if issubclass(origin, _BASES) and isinstance(given, (str, int, float, bytes)):
        return origin(given)
    raise NotImplementedError(f"no way to make {shown(kind)} of a {type(given).__qualname__}")


def is_untyped(wanted: Any) -> bool:
    """Whether a call names no type that says how to read a value."""
    return wanted is None or wanted is Any or wanted is object


def untyped(decode: Callable[[bytes], Any], payload: bytes) -> Any:
    """Decode a payload that says itself what it holds."""
    try:
        return decode(payload)
    except Undecodable:
        raise
    except Exception as error:
        raise _undecodable(error) from error


def decoding(decoder: Callable[[Any], Any], payload: bytes, wanted: Any) -> Any:
    """Decode a payload as a type."""
    try:
        return decoder(wanted)(payload)
    except CacheError:
        raise
    except msgspec.ValidationError as error:
        refuse(wanted, error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError) as error:
        raise _undecodable(error) from error
    except Exception as error:  # noqa: BLE001 - of the type's own code, such as __post_init__
        refuse(wanted, error)


def converted(value: Any, wanted: Any, exact: tuple[type, ...] = _EXACT) -> Any:
    """A value as a type: itself, or what it describes. ``exact``: types that no text stands for."""
    if is_untyped(wanted) or type(value) is wanted:
        return value
    try:
        return msgspec.convert(value, wanted, builtin_types=exact, dec_hook=from_hook)
    except Exception as error:  # noqa: BLE001 - also of the type's own code, such as __post_init__
        refuse(wanted, error)


def require_type(wanted: Any) -> None:
    """Refuse to read a payload that does not say its types as a type that does not either."""
    if not isinstance(wanted, type) and wanted is not None:
        vague = _is_vague(wanted)
    else:
        vague = wanted is None or wanted in _VAGUE
    if vague:
        raise TypeRequired(
            "the stored value is not made of builtins, and its bytes don't say what it was: "
            "name its type, as in get(key, type=User) or type=list[User], or give the region one"
        )


def _is_vague(wanted: Any) -> bool:
    """Whether a type leaves open what is in it. Classes are not looked into: they decided."""
    origin, parameters = get_origin(wanted), get_args(wanted)
    if origin is None or not parameters:
        return wanted is None or (origin or wanted) in _VAGUE
    if origin is Literal:
        return False
    return any(_is_vague(each) for each in parameters[: 1 if origin is Annotated else None])


def refuse(wanted: Any, error: Exception) -> NoReturn:
    """Raise :class:`TypeMismatch` for a value that does not fit."""
    raise TypeMismatch(
        f"the stored value can't be read as {_name(wanted)}: {error}; "
        f"ask for the type that is stored; if the type has changed since, let its new parts have "
        f"defaults, or load or store the entry anew"
    ) from error


def _undecodable(error: Exception) -> Undecodable:
    return Undecodable(f"malformed ({type(error).__name__}: {shown(str(error))})")


def _name(wanted: Any) -> str:
    return wanted.__qualname__ if isinstance(wanted, type) else shown(wanted)


def typed_msgpack(wanted: Any) -> Callable[[bytes], Any]:
    """The reader of a type from MessagePack."""
    reader: Callable[[bytes], Any] = _cached(_msgpack, wanted)
    return reader


def typed_json(wanted: Any) -> Callable[[bytes], Any]:
    """The reader of a type from JSON."""
    reader: Callable[[bytes], Any] = _cached(_json, wanted)
    return reader


def _cached(make: Any, wanted: Any) -> Any:
    try:
        return make(wanted)
    except TypeError:  # an Annotated with a list in it can't be looked up, or it is no type at all
        return make.__wrapped__(wanted)


@lru_cache(maxsize=512)
def _msgpack(wanted: Any) -> Callable[[bytes], Any]:
    made = msgspec.msgpack.Decoder(wanted, ext_hook=read_extension, dec_hook=from_hook)
    return made.decode


@lru_cache(maxsize=512)
def _json(wanted: Any) -> Callable[[bytes], Any]:
    made = msgspec.json.Decoder(wanted, dec_hook=from_hook)
    return made.decode
