"""What every backend does alike when entries leave it as bytes, and when they come back.

An envelope says what it holds and under which key; here it is opened before it is believed. What a
backend does with the value, and when it may, is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..codec import Encoded, RegionCodec
from ..errors import InvalidArgument, Undecodable
from ..protocols import Exported
from ..types import Record

__all__ = [
    "ALL",
    "MAX_VERSION",
    "check_part",
    "exported",
    "highest",
    "is_over",
    "opened",
    "too_new",
]

ALL: Final = "all"
"""The only part of a backend that is in one place."""

MAX_VERSION: Final = 9 * 10**18
"""The highest version that is restored, so that every backend has numbers left above it."""


def check_part(part: str | None) -> None:
    """Raise :class:`InvalidArgument` for a part that a backend in one place does not have."""
    if part not in (None, ALL):
        raise InvalidArgument(f"there is no part {part!r} to export: the only one is {ALL!r}")


def exported(
    codec: RegionCodec, record: Record, encoded: Encoded | None, kind: str = ""
) -> Exported:
    """A live record as it leaves; without its value where nothing was encoded."""
    value, key, version = b"", record.key, record.version
    if encoded is not None:
        value = codec.seal(key, version, encoded, expires_at=None, tags=())
    return Exported(key, value, version, record.expires_in, record.tags, kind)


def is_over(entry: Exported) -> bool:
    """Whether the time of an entry is over."""
    return entry.expires_in is not None and entry.expires_in <= 0


def opened(codec: RegionCodec, entry: Exported) -> Encoded:
    """The value of an entry. Raises :class:`Undecodable` for one that was not sealed as this entry
    of this region, :class:`InvalidArgument` for a version that can't be kept.
    """
    if not 0 < entry.version <= MAX_VERSION:
        raise InvalidArgument(
            f"{entry.key!r} was not restored: {entry.version} is no version; they are from 1 to "
            f"{MAX_VERSION}"
        )
    sealed = codec.unseal(entry.key, entry.value)
    if sealed.version != entry.version:
        raise Undecodable(
            f"{entry.key!r} is said to be version {entry.version} and was sealed as "
            f"{sealed.version}: it was changed on its way"
        )
    return sealed.encoded


def highest(entries: Sequence[Exported]) -> int:
    """The highest version among entries."""
    return max([entry.version for entry in entries], default=0)


def too_new(entry: Exported) -> InvalidArgument:
    """The error of an entry whose version is of the future."""
    return InvalidArgument(
        f"{entry.key!r} was not restored: its version {entry.version} is more than a minute ahead "
        f"of the clock of this machine, and no write could replace it until then: set the clock"
    )
