"""Upkeep of the memory backend: what expired or is dead goes now, and not within a minute.

Tables keep the order of uses and not their times, so nobody knows here how long an entry was not
used; limits, and the lifetimes of entries, bound what a process holds.
"""

from __future__ import annotations

from typing import Final, Protocol

from ..upkeep import Cleaned

__all__ = ["MemoryUpkeep"]

_UNKNOWN: Final = (
    "the memory backend does not know when an entry was last used: unused ones go by the limits "
    "of their regions"
)


class Sweepable(Protocol):
    """What has entries in this process."""

    @property
    def sweeping(self) -> bool:
        """Whether a look at everything is under way."""
        ...

    def sweep(self, *, thorough: bool = False) -> int:
        """Look at some entries; how many went."""
        ...


class MemoryUpkeep:
    """See :mod:`clusterdb.cache.upkeep`."""

    def __init__(self, backend: Sweepable) -> None:
        self._backend = backend

    async def count(self) -> int | None:
        return None

    async def clean(self, cursor: str, older_than: float, limit: int) -> Cleaned:
        del older_than, limit  # what is dead is of no use to anybody, however young
        removed = self._backend.sweep(thorough=not cursor)
        more = "on" if self._backend.sweeping else ""
        return Cleaned(cursor=more, removed=removed, notes=() if more else (_UNKNOWN,))
