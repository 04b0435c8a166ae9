"""Rows and their cached copies: how one becomes the other.

A copy is what a backend stores of a row: the value as bytes, and behind them the row's version
(:func:`stamped`), so that whoever finds a copy and hears of a change can tell which is newer. What
has no such version was put into the cache alone.

The version that a caller sees of a copy is the row's, and of anything else the backend's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from ..codec import TYPED, Encoded, RegionCodec, stamped, unstamped
from ..errors import Undecodable
from ..intents import Intent
from ..protocols import Put
from ..rows import Row
from ..settings import RegionSettings
from ..types import MISSING, Record

__all__ = ["Shape", "opened", "row_version"]


class Shape:
    """How the rows of one region look; ``objects``: storage takes values, and no bytes."""

    def __init__(
        self, settings: RegionSettings, wall: Callable[[], float], *, objects: bool
    ) -> None:
        assert settings.codec is not None, "a region with a storage behind it has a codec"
        self.settings = settings
        self._codec: RegionCodec = settings.codec
        self._objects = objects
        self._wall = wall

    def stored(self, value: object) -> Any:
        """A value, or ``MISSING``, as it is given to storage."""
        if not isinstance(value, Encoded) or not self._objects:
            return value
        plain = Encoded(value.payload, value.codec, value.flags & ~TYPED)
        return self._codec.decode(plain)

    def encoded(self, value: object) -> Encoded:
        """A value that storage gave."""
        return value if isinstance(value, Encoded) else self._codec.encode(value)

    def copy(self, row: Row) -> Put:
        """What is cached of a row: for as long as it lives, else as long as the region says."""
        ttl = self.settings.ttl if row.ttl is None else row.ttl
        return Put(row.key, stamped(self.encoded(row.value), row.version), ttl, row.tags)

    def record(self, row: Row) -> Record:
        """A row as the answer of a read that storage had to give."""
        ttl = self.settings.ttl if row.ttl is None else row.ttl
        value = self.encoded(row.value)
        return Record(row.key, value, row.version, ttl, row.tags, "storage")

    def pending(self, intent: Intent) -> Record:
        """An intent that has no row yet as the answer of a read; the value may be ``MISSING``."""
        left = self.settings.ttl
        if intent.deadline is not None:
            left = intent.deadline - self._wall()
        value = MISSING if left is not None and left <= 0 else intent.value
        return Record(intent.key, value, intent.version, left, intent.tags, "storage")


def opened(record: Record) -> Record:
    """A record of a backend as a caller gets it. Its ``near`` then is the backend's record."""
    value = record.value
    near = None if record.near is None else record
    if not isinstance(value, Encoded):
        return record if near is None else replace(record, near=near)
    try:
        value, version = unstamped(value)
    except Undecodable as error:
        return replace(record, value=error, near=near)
    return replace(record, value=value, version=version or record.version, near=near)


def row_version(record: Record | None) -> int:
    """The version of the row that a backend's record is a copy of; 0 for what is none."""
    if record is None or not isinstance(record.value, Encoded):
        return 0
    try:
        return unstamped(record.value)[1]
    except Undecodable:
        return 0


MISSING  # noqa: B018
