"""Avro by fastavro: a schema decides the bytes, and entries outlive a change of it.

A payload is Avro's *single-object encoding*: ``C3 01``, the CRC-64-AVRO fingerprint of the schema
that wrote it (8 bytes, little-endian), the datum. Reading resolves that schema to the one in force
by Avro's rules (defaults for new fields, promotion, aliases).

The writer's schema is found by its fingerprint among

* the schema in force,
* every ``*.avsc`` in the folder of ``schema.path``: keep an old version there, under any name, for
  as long as its entries may live,
* every schema that this process has had in force before.

An entry of any other schema can't be read, and counts as a miss. What a value becomes is up to the
schema: a ``float`` keeps 32 bits, ``timestamp-millis`` no microseconds.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from ..config import SchemaConfig
from ..errors import ConfigError, EncodeError, MissingExtra, Undecodable
from ..keys import shown
from .conversion import converted, msgpack_hook, require_type, untyped
from .encoded import TYPED, CodecId, Encoded
from .fault import parts
from .plain import SCALARS, is_native

__all__ = ["Avro"]

Schema: TypeAlias = Any

_MARKER: Final = b"\xc3\x01"
_PREFIX: Final = 10
_EXACT: Final = (bytes, bytearray, memoryview, datetime, date, time, UUID, Decimal)
_NATIVE: Final = SCALARS | {datetime, date, time, UUID, Decimal}
_SETTING: Final = "serialization.schema"

_seen: dict[bytes, Schema] = {}
"""The schemas that were in force in this process, by fingerprint."""


class Avro:
    """One schema: validates values against it, encodes and decodes them.

    Raises :class:`ConfigError` for a schema that is none, :class:`MissingExtra` without fastavro.
    """

    def __init__(self, config: SchemaConfig) -> None:
        try:
            import fastavro
            import fastavro.validation
        except ImportError:
            raise MissingExtra("a schema of type avro", "avro") from None
        self._write = fastavro.schemaless_writer
        self._read = fastavro.schemaless_reader
        self._validate: Any = fastavro.validation.validate  # its annotations lack a parameter
        self._invalid = fastavro.validation.ValidationError
        self._schema = _schema(config)
        own = _fingerprint(self._schema)
        _seen[own] = self._schema
        self._prefix = _MARKER + own
        self._beside = _beside(config)

    def validate(self, value: Any) -> None:
        """Raise :class:`EncodeError` for a value that does not fit the schema."""
        self._tree(value)

    def encode(self, value: Any) -> Encoded:
        """Encode a value; raises :class:`EncodeError`."""
        tree = self._tree(value)
        buffer = io.BytesIO()
        buffer.write(self._prefix)
        try:
            self._write(
                buffer, self._schema, tree, strict_allow_default=True, disable_tuple_notation=True
            )
        except Exception as error:
            raise EncodeError("$", type(value).__qualname__, f"the schema: {error}") from error
        native = type(value) in _NATIVE or is_native(value, _NATIVE, frozenset({str}))
        return Encoded(buffer.getvalue(), int(CodecId.AVRO), 0 if native else TYPED)

    def decode(self, payload: bytes, flags: int, wanted: Any) -> Any:
        """Decode a payload, of this schema or an older one."""
        if flags & TYPED:
            require_type(wanted)
        return converted(untyped(self._resolve, payload), wanted, _EXACT)

    def _tree(self, value: Any) -> Any:
        """What the schema sees of a value that fits it."""
        kind = type(value).__qualname__
        tree = None
        try:
            tree = msgspec.to_builtins(value, builtin_types=_EXACT, enc_hook=msgpack_hook)
            self._validate(tree, self._schema, disable_tuple_notation=True)
        except self._invalid as error:
            raise _misfit(tree, error) from error
        except Exception as error:
            reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
            raise EncodeError("$", kind, reason) from error
        return tree

    def _resolve(self, payload: bytes) -> Any:
        if payload[:2] != _MARKER or len(payload) < _PREFIX:
            raise Undecodable("it does not begin as an Avro object")
        fingerprint = payload[2:_PREFIX]
        writer = self._beside.get(fingerprint) or _seen.get(fingerprint)
        if writer is None:
            raise Undecodable(f"no known schema has the fingerprint {fingerprint[::-1].hex()}")
        buffer = io.BytesIO(payload)
        buffer.seek(_PREFIX)
        value = self._read(buffer, writer, self._schema)
        if buffer.tell() != len(payload):
            raise Undecodable("bytes follow the Avro datum")
        return value


def _misfit(tree: Any, error: Any) -> EncodeError:
    """The error of a validation, with the way to the part: fastavro tells the field, and the part
    itself.
    """
    first = error.errors[0]
    field = first.field.rpartition(".")[2]
    for path, part in _paths(tree, "$"):
        if part is first.datum and (not field or f".{field}" in path):
            return EncodeError(path, type(part).__qualname__, _wanted(first.schema))
    return EncodeError(f"$.{field}", type(first.datum).__qualname__, _wanted(first.schema))


def _paths(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, tree
    for step, part in parts(tree):
        yield from _paths(part, path + step)


def _wanted(schema: Schema) -> str:
    name = schema.get("name", schema.get("type")) if isinstance(schema, dict) else schema
    return f"the schema has {shown(name)} there"


def _schema(config: SchemaConfig) -> Schema:
    if config.path is not None:
        return _load(Path(config.path), f"{_SETTING}.path")
    assert config.inline is not None
    from fastavro.schema import parse_schema

    inline = config.inline
    return _parsed(lambda: parse_schema(json.loads(inline)), "inline", f"{_SETTING}.inline")


def _beside(config: SchemaConfig) -> dict[bytes, Schema]:
    """The schemas in the folder of the one in force, by fingerprint."""
    if config.path is None:
        return {}
    found = sorted(Path(config.path).parent.glob("*.avsc"))
    loaded = [_load(path, f"{_SETTING}.path") for path in found]
    return {_fingerprint(each): each for each in loaded}


def _load(path: Path, setting: str) -> Schema:
    from fastavro.schema import load_schema

    return _parsed(lambda: load_schema(str(path)), str(path), setting)


def _parsed(parse: Callable[[], Schema], name: str, setting: str) -> Schema:
    try:
        schema = parse()
        _least(schema, {})
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{setting}: {name} is no Avro schema: {reason}", path=setting) from error
    return schema


def _least(schema: Schema, sizes: dict[str, int]) -> int:
    """The fewest bytes a datum takes. An array of items that take none is refused: with five bytes
    a payload could claim any number of them.
    """
    if isinstance(schema, list):
        for each in schema:
            _least(each, sizes)
        return 1
    if isinstance(schema, str):
        return sizes.get(schema, 0 if schema == "null" else 1)
    kind, name = schema["type"], schema.get("name", "")
    if not isinstance(kind, str):
        return _least(kind, sizes)
    if kind == "null":
        return 0
    if kind == "fixed":
        sizes[name] = int(schema["size"])
        return sizes[name]
    if kind in ("record", "error"):
        sizes[name] = 1  # within itself it can only stand behind a union, an array or a map
        sizes[name] = sum(_least(each["type"], sizes) for each in schema["fields"])
        return sizes[name]
    if kind == "array" and _least(schema["items"], sizes) == 0:
        raise ValueError("the items of an array take no bytes; store their number instead")
    if kind == "map":
        _least(schema["values"], sizes)
    return 1


def _fingerprint(schema: Schema) -> bytes:
    from fastavro.schema import fingerprint, to_parsing_canonical_form

    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))
