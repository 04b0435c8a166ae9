"""Settings that are written in one form and held in another: durations, sizes, paths, lists.

A file can only hold numbers and text, code may also give a `timedelta`, and whoever reads a setting
wants one form: float seconds, `ByteSize`, str, tuple. To a type checker each alias below is a field
that accepts the wide form and reads as the narrow one (a descriptor, as PEP 681 describes for
dataclass-like classes); at run time it is what msgspec needs to know: the forms a file may hold,
with the function that reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeAlias, TypeVar, overload

from msgspec import Meta, UnsetType

from ..errors import InvalidArgument
from ..units import ByteSize, seconds, ttl_seconds
from .secrets import shown

__all__ = [
    "Count",
    "Duration",
    "FilePath",
    "Fraction",
    "Items",
    "Name",
    "OptionalDuration",
    "OptionalPath",
    "OptionalSecret",
    "OptionalSize",
    "RegionTtl",
    "Size",
    "Ttl",
    "preset",
]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

Read_co = TypeVar("Read_co", covariant=True)
Written_contra = TypeVar("Written_contra", contravariant=True)
Item = TypeVar("Item")


def preset(value: Any) -> Any:
    """Return `value`: a default for a field whose type a checker sees as a descriptor."""
    return value


def _path_text(value: object) -> str:
    """Return a path as text; refuse an empty one, bytes, and NUL, which no file system takes."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidArgument(f"expected the path of a file or directory, got {shown(value)}")
    return str(text)


def _name_text(value: object) -> str:
    """Return a name that can be a part of a key on a server."""
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        rule = "use 1 to 64 letters, digits, '.', '_' or '-' (ASCII)"
        raise InvalidArgument(f"{shown(value)} is not a name: {rule}")
    return str(value)


Name = Annotated[
    str, Meta(extra={"read": _name_text}, extra_json_schema={"pattern": f"^{_NAME.pattern}$"})
]
"""The name of a cache or region."""

Count = Annotated[int, Meta(ge=1, le=2**63 - 1)]
"""How many, at least one."""

Fraction = Annotated[float, Meta(ge=0, le=1)]
"""A share, 0 to 1."""

OptionalSecret = Annotated[str, Meta(extra={"secret": True})] | None
"""Text that no message and no repr shows."""

if TYPE_CHECKING:

    class Converted(Generic[Read_co, Written_contra]):
        """A field that accepts `Written_contra` and reads as `Read_co`."""

        @overload
        def __get__(self, instance: None, owner: type) -> Converted[Read_co, Written_contra]: ...
        @overload
        def __get__(self, instance: object, owner: type) -> Read_co: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: Written_contra) -> None: ...

    _Time: TypeAlias = float | str | timedelta
    Duration: TypeAlias = Converted[float, _Time]
    OptionalDuration: TypeAlias = Converted[float | None, _Time | None]
    Ttl: TypeAlias = Converted[float | None, _Time | None]
    RegionTtl: TypeAlias = Converted[float | UnsetType | None, _Time | UnsetType | None]
    Size: TypeAlias = Converted[ByteSize, int | str]
    OptionalSize: TypeAlias = Converted[ByteSize | None, int | str | None]
    FilePath: TypeAlias = Converted[str, str | os.PathLike[str]]
    OptionalPath: TypeAlias = Converted[str | None, str | os.PathLike[str] | None]
    Items: TypeAlias = Converted[tuple[Item, ...], Sequence[Item]]
else:
    _TIME = {"description": "seconds, or text such as 90s, 1h30m, 7d", "examples": ["90s", "1h30m"]}
    _BYTES = {"description": "bytes, or text such as 64MiB, 10GB", "examples": ["64MiB", "10GB"]}

    Duration = Annotated[float | str, Meta(extra={"read": seconds}, extra_json_schema=_TIME)]
    OptionalDuration = Duration | None
    _TtlText = Annotated[float | str, Meta(extra={"read": ttl_seconds}, extra_json_schema=_TIME)]
    Ttl = _TtlText | None
    RegionTtl = _TtlText | None | UnsetType
    Size = Annotated[int | str, Meta(extra={"read": ByteSize}, extra_json_schema=_BYTES)]
    OptionalSize = Size | None
    FilePath = Annotated[str, Meta(extra={"read": _path_text})]
    OptionalPath = FilePath | None

    class Items:
        """``Items[T]`` is ``tuple[T, ...]``; code may give any sequence."""

        def __class_getitem__(cls, item: Any) -> Any:
            """Return the tuple type that msgspec knows."""
            return tuple[item, ...]
