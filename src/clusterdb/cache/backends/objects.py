"""Objects as bytes, and back: what leaves a backend that keeps objects.

Bytes don't say of which class an object was, so its name goes with it. It is found again only if
the program has imported its module by itself: a file must not be able to have code imported.
"""

from __future__ import annotations

import sys

from ..codec import TYPED, Encoded, RegionCodec
from ..errors import CacheError, EncodeError, TypeRequired
from ..isolation import plain
from ..protocols import Exported, NotExported
from ..types import Record
from .restoring import exported

__all__ = ["class_named", "decoded", "encoded", "exported_object"]


def encoded(codec: RegionCodec, stored: object) -> tuple[Encoded, str]:
    """The bytes of a value as a table has it, and the name of its class where they don't say all.
    Raises :class:`EncodeError` for one that could not be made of them again.
    """
    value = plain(stored)
    if isinstance(value, Encoded):  # there is a storage behind the region: it has bytes already
        return value, ""
    made = codec.encode(value)
    if not made.flags & TYPED:
        return made, ""
    name = _name_of_class(value)
    if name is None or not _comes_back(codec, value, made):
        kind = type(value).__qualname__
        raise EncodeError("$", kind, "its class can't make it of its bytes again")
    return made, name


def decoded(codec: RegionCodec, value: Encoded, kind: str) -> object:
    """The value of some bytes, which ``kind`` names the class of, if that is not empty.

    Raises :class:`TypeRequired` for bytes that don't say what they were, where nobody else does.
    """
    known = class_named(kind) if kind else None
    if value.flags & TYPED and known is None:
        wanted = f"the class {kind!r}, which is not imported" if kind else "a class nobody named"
        raise TypeRequired(
            f"a backend that keeps objects needs {wanted}: import it before the entry is restored, "
            f"or restore into a backend that keeps bytes"
        )
    return codec.decode(value, known)


def exported_object(codec: RegionCodec, record: Record, values: bool) -> Exported | NotExported:
    """A live record of a table as it leaves."""
    if not values:
        return exported(codec, record, None)
    try:
        value, kind = encoded(codec, record.value)
    except CacheError as error:
        return NotExported(record.key, error)
    return exported(codec, record, value, kind)


def class_named(name: str) -> type | None:
    """The class of that name, if its module was imported by the program."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _name_of_class(value: object) -> str | None:
    """Where the class of a value can be found again; ``None`` where it can't."""
    kind = type(value)
    name = f"{kind.__module__}:{kind.__qualname__}"
    return name if class_named(name) is kind else None


def _comes_back(codec: RegionCodec, value: object, made: Encoded) -> bool:
    """Whether the class of ``value`` is enough to read it."""
    try:
        return bool(codec.decode(made, type(value)) == value)
    except CacheError:
        return False
