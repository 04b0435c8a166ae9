"""The words every layer shares: what a key holds, and what a read answers.

``Record`` is what a backend knows of a key at one moment; ``Hit | Stale | Miss`` is what
``lookup`` answers.
"""

from __future__ import annotations

import enum
import math
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

import msgspec

__all__ = [
    "FOREVER",
    "MISSING",
    "Hit",
    "Lookup",
    "Miss",
    "Missing",
    "Record",
    "RemovalCause",
    "Stale",
    "Tier",
    "Version",
]

T = TypeVar("T")

Version: TypeAlias = int
"""Equal versions of a key mean the same write. Grows with each write of a process; of two processes
as far as their clocks agree, or one has heard of the other's write."""

Tier: TypeAlias = Literal["memory", "near", "disk", "redis", "storage"]
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


class Record(msgspec.Struct, frozen=True):
    """What a backend knows of one key at one moment.

    ``expires_in`` is seconds until the logical expiry, ``None`` without one, and negative when
    the record is past it but still within its region's grace. ``near`` is the right to keep the
    decoded value near: see :meth:`Backend.keep`.
    """

    key: str
    value: Any
    version: Version
    expires_in: float | None
    tags: tuple[str, ...]
    tier: Tier
    age_bound: float = 0.0
    near: Any = None

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
