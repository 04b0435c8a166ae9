"""The words every layer shares: what a key holds, and what a read answers.

``Entry`` is the record that lives in a table; it is changed only under the table's lock.
``Record`` is a frozen copy of one for those outside. ``Hit | Stale | Miss`` is what ``lookup``
answers. ``TagState`` is the shared life of a tag: each entry points to the states of its tags,
so that ending a state ends all its entries in O(1).
"""

from __future__ import annotations

import enum
import math
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

__all__ = [
    "FOREVER",
    "MISSING",
    "Entry",
    "Hit",
    "Lookup",
    "Miss",
    "Missing",
    "Record",
    "RemovalCause",
    "Stale",
    "TagState",
    "Tier",
    "Version",
]

T = TypeVar("T")

Version: TypeAlias = int
"""Grows with each write to a cache; equal versions of a key mean the same write."""

Tier: TypeAlias = Literal["memory", "near", "disk", "redis"]
"""Where an answer came from."""

FOREVER: Final = math.inf
"""The deadline of an entry without expiry."""


class Missing(enum.Enum):
    """The type of :data:`MISSING`, which stands for "no value" where ``None`` is a value."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING


class RemovalCause(enum.StrEnum):
    """Why an entry left a table."""

    DELETED = "deleted"
    INVALIDATED = "invalidated"
    REPLACED = "replaced"
    EXPIRED = "expired"
    EVICTED = "evicted"
    CLEARED = "cleared"


class TagState:
    """The life of one tag between two invalidations; identity is its nonce in this process.

    ``uses`` counts the entries and claims that point here: at zero the state is forgotten.
    """

    __slots__ = ("live", "name", "uses")

    def __init__(self, name: str) -> None:
        self.name = name
        self.live = True
        self.uses = 0


class Entry:
    """A resident entry. ``prev``, ``next`` and ``home`` belong to the eviction policy,
    ``slot`` and ``place`` to the timer wheel.
    """

    __slots__ = (
        "deadline",
        "home",
        "key",
        "next",
        "place",
        "prev",
        "resident",
        "slot",
        "tags",
        "value",
        "version",
        "weight",
    )

    def __init__(self, key: str, value: object) -> None:
        self.key = key
        self.value = value
        self.deadline: float = FOREVER
        self.version: Version = 0
        self.weight = 0
        self.tags: tuple[TagState, ...] = ()
        self.resident = False
        self.prev: Entry | None = None
        self.next: Entry | None = None
        self.home: Any = None
        self.slot = -1
        self.place = 0


class Record(msgspec.Struct, frozen=True):
    """What a backend knows of one key at one moment.

    ``expires_in`` is seconds until the logical expiry, ``None`` without one, and negative when
    the record is past it but still within its region's grace.
    """

    key: str
    value: Any
    version: Version
    expires_in: float | None
    tags: tuple[str, ...]
    tier: Tier
    age_bound: float = 0.0

    @property
    def stale(self) -> bool:
        """Past its expiry, kept only for the region's grace."""
        return self.expires_in is not None and self.expires_in <= 0

    def as_stale(self, value: object) -> Stale[Any]:
        """The answer of a read that took it past its expiry, with the value as it is given."""
        expired_for = -(self.expires_in or 0.0)
        return Stale(value, self.version, self.age_bound, expired_for, self.tags, self.tier)


class Hit(msgspec.Struct, Generic[T], frozen=True):
    """A live entry.

    ``age_bound``: the value was current at most this many seconds ago (0: it is current).
    ``expires_in``: seconds left, ``None`` without expiry. ``tier``: who answered.
    """

    value: T
    version: Version
    age_bound: float
    expires_in: float | None
    tags: tuple[str, ...]
    tier: Tier

    def __bool__(self) -> Literal[True]:
        return True


class Stale(msgspec.Struct, Generic[T], frozen=True):
    """An entry past its expiry, still within its region's grace; ``expired_for`` is in seconds."""

    value: T
    version: Version
    age_bound: float
    expired_for: float
    tags: tuple[str, ...]
    tier: Tier

    def __bool__(self) -> Literal[True]:
        return True


class Miss(msgspec.Struct, frozen=True):
    """Nothing there."""

    def __bool__(self) -> Literal[False]:
        return False


Lookup: TypeAlias = Hit[T] | Stale[T] | Miss
