"""Entries as a person sees them, who has none of the classes of the programs that wrote them.

It looks past the face, at what the backend has: who is not configured as the program that wrote an
entry may be unable to decode it, and must not take it for worthless and remove it, as the face
does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from .codec import Encoded
from .errors import Undecodable
from .keys import check_key, shown
from .regions import Region
from .types import MISSING, Record

__all__ = ["Built", "as_json", "described", "peek", "present", "read"]


class Built:
    """The builtins that a stored value is made of. A type to ask for where the value's own type is
    a class of some program: any value can be read as this one.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def model_validate(cls, given: Any, *, strict: bool = False) -> Self:
        """How values are read into classes that msgspec does not know."""
        del strict
        return cls(given)

    def model_dump(self, **_: object) -> Any:
        """The way back."""
        return self.value


async def read(region: Region[Any], key: str) -> Record | None:
    """What is under a key, its value in builtins; counts as a read. Raises :class:`Undecodable`.
    One round trip.
    """
    backend, name = region.access.runtime.backend, region.name
    return _opened(region, await backend.read(name, [check_key(key)]))


async def peek(region: Region[Any], key: str) -> Record | None:
    """As :func:`read`, leaving no trace in statistics and eviction."""
    backend, name = region.access.runtime.backend, region.name
    return _opened(region, await backend.peek(name, [check_key(key)]))


async def present(region: Region[Any], key: str) -> bool:
    """Whether there is an entry, readable or not. Counts as no read. One round trip."""
    [record] = await region.access.runtime.backend.peek(region.name, [check_key(key)])
    return record is not None


def _opened(region: Region[Any], records: Sequence[Record | None]) -> Record | None:
    [record] = records
    if record is None:
        return None
    if record.near is not None:
        region.access.runtime.backend.keep(region.name, record, MISSING)
    return msgspec.structs.replace(record, value=_decoded(region, record), near=None)


def _decoded(region: Region[Any], record: Record) -> Any:
    value, state = record.value, region.access.state
    if isinstance(value, Undecodable):
        raise value
    if state.codec is None:
        return state.left(record.key, value)
    if not isinstance(value, Encoded):
        return value
    found = state.codec.decode(value, Built)
    return found.value if isinstance(found, Built) else found


def described(value: object) -> dict[str, Any]:
    """A value as JSON can carry it: ``type`` is ``text``, ``bytes`` (then ``value`` is base64) or
    ``json``.
    """
    if isinstance(value, str):
        return {"type": "text", "value": value}
    if isinstance(value, bytes):
        return {"type": "bytes", "value": base64.b64encode(value).decode()}
    return {"type": "json", "value": json.loads(as_json(value))}


def as_json(value: Any) -> str:
    """A value as one line of JSON: dates as text, bytes as base64, sets as lists, NaN and the
    infinities as null. Of an object that JSON can't say anything of, a short form of its ``repr``.
    """
    try:
        found = msgspec.to_builtins(value, str_keys=True, enc_hook=shown)
    except (TypeError, ValueError, RecursionError):  # keys that are no text, or levels upon levels
        found = shown(value)
    try:
        return json.dumps(found, ensure_ascii=False, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(msgspec.json.encode(found)), ensure_ascii=False)
