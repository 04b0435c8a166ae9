"""The contract of a storage: what a database of record behind the cache must do.

As that of a backend (:mod:`clusterdb.cache.protocols`) it is small and vectorised. Keys and options
were checked by the caller. A cancelled call leaves each transaction done or not done, never half.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from .errors import CacheError
from .table import When
from .upkeep import Space

__all__ = [
    "Row",
    "RowChange",
    "RowChanged",
    "RowWritten",
    "Storage",
    "StorageCapability",
    "StorageInfo",
    "StorageSetup",
]

StorageCapability: TypeAlias = Literal[
    "objects", "conditions", "versions", "atomic", "changes", "expiry", "tags"
]
"""What not every storage can do.

``objects``: takes and gives values as they are, without encoding. ``conditions``: ``when``.
``versions``: keeps a version of each row, and judges by ``expect`` and ``version`` of a change;
without it all versions are 0. ``atomic``: ``write`` of all or nothing. ``changes``: tells what was
changed, by whomever; without it a change is told to nobody. ``expiry`` and ``tags``: keeps them. A
change that asks for what a storage can't do is answered with :class:`NotSupported` in its place."""


class Row(msgspec.Struct, frozen=True):
    """What storage has under a key. ``version`` grows by one with each write to the key, through a
    deletion too. ``ttl`` is the seconds left by storage's own clock, ``None`` for ever.
    """

    key: str
    value: Any
    version: int
    ttl: float | None = None
    tags: tuple[str, ...] = ()


class RowChange(msgspec.Struct, frozen=True):
    """Write ``value`` under ``key``, or delete the row where it is ``MISSING``.

    ``ttl`` is in seconds from now, ``None`` for ever; ``keep_ttl`` keeps the expiry of a live row.
    ``when`` is the condition on a live row, ``expect`` the version that it must have (0: there must
    be none). With ``version`` the row gets that one, and only if what is there, deleted or not, has
    a lower one: a change may then come late, or twice.
    """

    region: str
    key: str
    value: Any
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    when: When = "always"
    keep_ttl: bool = False
    expect: int | None = None
    version: int | None = None


class RowWritten(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a change of a row. ``applied``: a row was written, or a live one deleted;
    ``version`` is what the row has now, live or not.
    """

    applied: bool
    version: int


class RowChanged(msgspec.Struct, frozen=True, gc=False):
    """A row changed; ``origin`` is what the writer's ``Storage`` was made with, empty for others.
    ``time`` is seconds since the Unix epoch by storage's clock.
    """

    region: str
    key: str
    version: int
    origin: str
    time: float


class StorageInfo(msgspec.Struct, frozen=True):
    """A storage at one moment: how many rows are live, deleted and waiting in the outbox, where it
    knows; ``problems`` are sentences for a person, with the remedy.
    """

    kind: str
    name: str
    rows: int | None = None
    deleted: int | None = None
    outbox: int | None = None
    problems: tuple[str, ...] = ()


class Storage(Protocol):
    """The database of record behind a cache.

    One without ``objects`` is given values as :class:`Encoded` and gives them back so. A method
    raises :class:`StorageUnavailable` when the database can't be reached, is too busy or ended the
    transaction: nothing was written then; and :class:`OutcomeUnknown` when a commit's reply never
    came. What the database refuses of one row only is returned in that row's place. The factory
    opens a storage, whoever uses it last closes it.
    """

    @property
    def kind(self) -> str:
        """The name it has in a configuration."""
        ...

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        """What it can do beyond the contract."""
        ...

    @property
    def deadline(self) -> float:
        """No commit begins more than so many seconds after its ``before_commit`` was called: the
        transaction is ended by then, though this process be stopped meanwhile.
        """
        ...

    async def open(self) -> None:
        """Connect. Raises :class:`ConfigError` where the table is missing or of another shape and
        may not be made. May be called again in another loop after the first has ended.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Idempotent."""
        ...

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        """The live row under each key, all of one moment. One query."""
        ...

    async def write(
        self,
        changes: Sequence[RowChange],
        *,
        atomic: bool = False,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None = None,
    ) -> list[RowWritten | CacheError]:
        """Make changes of different keys in one transaction, outbox rows included, each under the
        lock of its row. ``atomic``: if one is not applied, none is; each outcome then has the
        version of the row that stays.

        ``before_commit`` is awaited while the locks are held, with the outcomes, also where no row
        was changed, but not for an ``atomic`` that made nothing. If it raises, or is not done at
        the ``deadline``, nothing is written; its error goes on. Two statements and a commit,
        whatever the number of changes.
        """
        ...

    def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        """All live rows of a region, by key, in batches; one query a batch."""
        ...

    async def clear(self, regions: Sequence[str]) -> int:
        """Delete all rows of regions; how many were live. The outbox tells of each."""
        ...

    async def position(self) -> str:
        """Where the stream of changes ends now."""
        ...

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        """What was committed after a position, each change once, and the position behind it. A
        change is given once nothing that would come before it can still be committed. Those of one
        key are in the order of their versions, but where transactions overlapped an older version
        may be given by a later call than a newer one. Raises :class:`ChangesLost` where the
        position is older than what is kept. One query.
        """
        ...

    async def wait(self, timeout: float) -> None:
        """Return when something may have been committed, at the latest ``timeout`` seconds on."""
        ...

    async def prune(self, older_than: float) -> int:
        """Forget deleted rows and changes that are older than so many seconds; how many."""
        ...

    async def space(self) -> list[Space]:
        """Space that holds nothing, with what its owner can do about it. One query."""
        ...

    async def describe(self) -> StorageInfo:
        """Figures and problems. A query or two."""
        ...


class StorageSetup(Protocol):
    """A storage that can make its tables; for that it need not be open."""

    def statements(self, *, with_triggers: bool) -> list[str]:
        """What :meth:`init` does, as SQL."""
        ...

    async def init(self, *, with_triggers: bool) -> None:
        """Make what is missing, and bring up to date what an older release made; idempotent.
        ``with_triggers``: also those that tell of changes by plain SQL. Raises
        :class:`ConfigError` where that is not allowed, or a newer release made them.
        """
        ...
