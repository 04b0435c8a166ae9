"""What the storage needs to know of a table: its SQL, and how rows go in and come out.

Each statement is one round trip, whatever the number of rows, and a table is either the storage's
own (:mod:`.own`) or the user's (:mod:`.mapped`). The parameters of the statements are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import msgspec

from ...errors import CacheError
from ...rows import Row, RowChange, StorageCapability
from ..names import Names

__all__ = ["Put", "Statement", "Table", "waking"]


class Put(msgspec.Struct, frozen=True):
    """One row to be written, of the change at ``at``. ``known``: a row is there and locked;
    ``kept``: the expiry that stays.
    """

    at: int
    change: RowChange
    version: int
    known: bool
    kept: Any


Statement: TypeAlias = tuple[str, list[Any]]
"""SQL and its parameters, which the origin follows; it gives what ``put`` does."""


class Table(Protocol):
    """A table. ``makes_table``: it is the storage's.

    ``read``: region, keys. ``page``: region, key to begin behind, number. ``lock``: regions, keys;
    gives region, key, version, whether live, expiry and whether known of those that it knows
    something of. ``put``: what :meth:`arguments` gives, and the origin; gives for each region the
    keys and the versions of what was written. ``clear``: regions, origin. ``prune``: seconds.
    """

    names: Names
    makes_table: bool
    read: str
    page: str
    lock: str
    put: str
    clear: str
    prune: str
    figures: str

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """What such a table can do."""
        ...

    def tables(self) -> list[str]:
        """The statements that make what is missing."""
        ...

    def triggers(self) -> list[str]:
        """The statements that make the triggers anew."""
        ...

    def check(self, columns: dict[str, str], unique: set[str]) -> str:
        """What is wrong with a table of such columns, some of them unique."""
        ...

    def check_region(self, region: str) -> None:
        """Raise :class:`NotSupported` for a region that has no rows here."""
        ...

    def refusal(self, change: RowChange) -> CacheError | None:
        """Why a change can't be made, whatever the table has."""
        ...

    def stored(self, key: str) -> Any:
        """A key as the statements take it; ``None`` where no row can have it."""
        ...

    def row(self, found: Any) -> Row:
        """A row of ``read`` and ``page``."""
        ...

    def arguments(self, puts: Sequence[Put]) -> list[list[Any]]:
        """The parameters of ``put``. Raises :class:`RowRefused`."""
        ...

    def upsert(self, changes: Sequence[RowChange]) -> Statement | None:
        """The statement that writes rows whatever is there, if there is one."""
        ...


def waking(channel: str) -> str:
    """An expression that wakes who listens, once for the statement."""
    return f"(SELECT pg_notify('{channel}', '')) IS NULL"
