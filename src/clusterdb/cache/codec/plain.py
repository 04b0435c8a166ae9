"""The self-describing form: trees of exact builtins as MessagePack that needs no type to be read.

MessagePack itself tells None, bool, int (64 bit), float, str, bytes, list and dict apart. The other
builtins and the everyday value types are extension types, numbered below; their layout is part of
the wire format (``docs/reference/envelope.md``). A tree that holds anything else, a subclass of a
builtin included, has no such form: :func:`describe` raises :class:`NotPlain`.

Most values are what MessagePack knows by itself, and msgspec writes those in C. So the writer
encodes first and asks :func:`is_native` afterwards, which looks at a tree level by level with
loops that also run in C. Only what fails that is walked object by object.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import chain
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec.msgpack import Ext

__all__ = [
    "DESCRIBED",
    "MAX_DEPTH",
    "SCALARS",
    "NotPlain",
    "decode",
    "describe",
    "is_native",
    "read_extension",
]

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
DICT: Final = 4
INT: Final = 5
DATETIME: Final = 6
DATE: Final = 7
TIME: Final = 8
TIMEDELTA: Final = 9
UUID_: Final = 10
DECIMAL: Final = 11
COMPLEX: Final = 12

SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})
"""What MessagePack knows that holds nothing else; ints of 64 bits only."""

MAX_DEPTH: Final = 128
"""Levels of containers. Reading must not need more of the stack than a caller may have left, and
an extension inside an extension takes four frames.
"""

_TOO_DEEP: Final = f"it has more than {MAX_DEPTH} levels"
_MICROSECOND: Final = timedelta(microseconds=1)
_COMPLEX: Final = struct.Struct(">dd")
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1
_FOLD: Final = "!"

_encode: Final = msgspec.msgpack.Encoder().encode


class NotPlain(Exception):
    """A part of a value has no self-describing form."""


def is_native(
    value: Any, scalars: frozenset[type] = SCALARS, keys: frozenset[type] = SCALARS
) -> bool:
    """Whether a tree is of exact scalars, lists and dicts only.

    For trees that were encoded already: they end, and their ints fit. Raises ``RecursionError``
    for one of more than :data:`MAX_DEPTH` levels.
    """
    if type(value) is dict and scalars.issuperset(map(type, value.values())):
        return keys.issuperset(map(type, value))  # most often: fields of scalars
    level = [value]
    for _ in range(MAX_DEPTH):
        dicts = [each for each in level if type(each) is dict]
        lists = [each for each in level if type(each) is list]
        if len(dicts) + len(lists) < len(level):
            return False
        if dicts and not keys.issuperset(map(type, chain.from_iterable(dicts))):
            return False
        within = chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists))
        level = [each for each in within if type(each) not in scalars]
        if not level:
            return True
    raise RecursionError(_TOO_DEEP)


def describe(value: Any, depth: int = 0) -> Any:
    """The tree that msgspec writes in the self-describing form of ``value``.

    Raises :class:`NotPlain`, and ``RecursionError`` for one of more than :data:`MAX_DEPTH` levels.
    """
    kind = type(value)
    if kind in SCALARS:
        return _describe_int(value) if kind is int and _is_big(value) else value
    if depth >= MAX_DEPTH:
        raise RecursionError(_TOO_DEEP)
    if kind is list:
        return [describe(each, depth + 1) for each in value]
    if kind is dict:
        return _describe_dict(value, depth + 1)
    code = _CONTAINERS.get(kind)
    if code is not None:
        return Ext(code, _encode([describe(each, depth + 1) for each in value]))
    describer = _DESCRIBERS.get(kind)
    if describer is None:
        raise NotPlain(value)
    return describer(value)


def _describe_dict(value: dict[Any, Any], depth: int) -> Any:
    if all(type(key) in SCALARS and not _is_big(key) for key in value):
        return {key: describe(each, depth) for key, each in value.items()}
    return Ext(DICT, _encode([describe(each, depth) for pair in value.items() for each in pair]))


def _describe_int(value: int) -> Ext:
    return Ext(INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _is_big(key: Any) -> bool:
    return type(key) is int and not _SMALLEST <= key <= _LARGEST


def _describe_datetime(value: datetime) -> Ext:
    """ISO 8601 with the offset, the name of the zone in brackets (RFC 9557), then the fold."""
    text = value.isoformat() + _zone(value.tzinfo)
    return Ext(DATETIME, (text + _FOLD if value.fold else text).encode())


def _describe_time(value: time) -> Ext:
    text = value.isoformat() + _zone(value.tzinfo)
    return Ext(TIME, (text + _FOLD if value.fold else text).encode())


def _zone(zone: Any) -> str:
    kind = type(zone)
    if zone is None or kind is timezone:
        return ""
    if kind is ZoneInfo and zone.key is not None:
        return f"[{zone.key}]"
    raise NotPlain(zone)


_CONTAINERS: Final[dict[type, int]] = {tuple: TUPLE, set: SET, frozenset: FROZENSET}
_DESCRIBERS: Final[dict[type, Callable[[Any], Ext]]] = {
    datetime: _describe_datetime,
    date: lambda value: Ext(DATE, value.isoformat().encode()),
    time: _describe_time,
    timedelta: lambda value: Ext(TIMEDELTA, b"%d" % (value // _MICROSECOND)),
    UUID: lambda value: Ext(UUID_, value.bytes),
    Decimal: lambda value: Ext(DECIMAL, str(value).encode()),
    complex: lambda value: Ext(COMPLEX, _COMPLEX.pack(value.real, value.imag)),
}

DESCRIBED: Final = frozenset({list, dict, *_CONTAINERS, *_DESCRIBERS})
"""What :func:`describe` may have a form for, beside scalars."""


def read_extension(code: int, data: memoryview) -> Any:
    """The value of an extension; any exception of it means that the bytes are not ours."""
    reader = _READERS.get(code)
    if reader is None:
        raise ValueError(f"extension {code} is not known")
    return reader(data)


decode: Final = msgspec.msgpack.Decoder(ext_hook=read_extension).decode
"""The value of a self-describing payload; any exception means that it is malformed."""

_items: Final = msgspec.msgpack.Decoder(list[Any], ext_hook=read_extension).decode


def _read_dict(data: memoryview) -> dict[Any, Any]:
    pairs = iter(_items(data))
    return dict(zip(pairs, pairs, strict=True))


def _read_datetime(data: memoryview) -> datetime:
    text, zone, fold = _split(data)
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=zone or value.tzinfo, fold=fold)


def _read_time(data: memoryview) -> time:
    text, zone, fold = _split(data)
    value = time.fromisoformat(text)
    return value.replace(tzinfo=zone or value.tzinfo, fold=fold)


def _split(data: memoryview) -> tuple[str, ZoneInfo | None, int]:
    text = str(data, "ascii")
    fold = text.endswith(_FOLD)
    text, _, name = text.removesuffix(_FOLD).removesuffix("]").partition("[")
    return text, ZoneInfo(name) if name else None, int(fold)


_READERS: Final[dict[int, Callable[[memoryview], Any]]] = {
    TUPLE: lambda data: tuple(_items(data)),
    SET: lambda data: set(_items(data)),
    FROZENSET: lambda data: frozenset(_items(data)),
    DICT: _read_dict,
    INT: lambda data: int.from_bytes(data, "big", signed=True),
    DATETIME: _read_datetime,
    DATE: lambda data: date.fromisoformat(str(data, "ascii")),
    TIME: _read_time,
    TIMEDELTA: lambda data: timedelta(microseconds=int(bytes(data))),
    UUID_: lambda data: UUID(bytes=bytes(data)),
    DECIMAL: lambda data: Decimal(str(data, "ascii")),
    COMPLEX: lambda data: complex(*_COMPLEX.unpack(data)),
}
