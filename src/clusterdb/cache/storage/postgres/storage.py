"""Storage in a PostgreSQL database: a table, its outbox, and a channel that wakes who reads it.

Writers lock rows in the order of their keys, write all of a group in one statement and commit once.
A change is told once every transaction that began before its own has ended: changes come in one
order for everybody, and none comes late. A transaction that stays open for long, of whatever
program of the same server, holds all changes back as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from ...clock import Clock
from ...codec import Encoded
from ...config import PostgreSQL
from ...errors import CacheError, ChangesLost, ConfigError
from ...rows import (
    Row,
    RowChange,
    RowChanged,
    RowWritten,
    StorageCapability,
    StorageInfo,
)
from ..names import Names
from .faults import LOST, code_of
from .listening import Listener
from .schema import COLUMNS, SCHEMA_VERSION, channel, tables, triggers
from .sessions import Session, Sessions
from .statements import Statements
from .writing import Group, SplitNeeded

__all__ = ["PostgresStorage"]

R = TypeVar("R")

_HELD_BACK: Final = 0.02
"""How soon to look again at changes that wait for an older transaction: nobody tells of its end."""


class PostgresStorage:
    """A table of a PostgreSQL database. ``origin`` is what others read of our changes."""

    kind: ClassVar[str] = "postgresql"
    capabilities: ClassVar[frozenset[StorageCapability]] = frozenset(
        {"conditions", "versions", "atomic", "changes", "expiry", "tags"}
    )

    def __init__(self, config: PostgreSQL, clock: Clock, origin: str = "") -> None:
        self._config = config
        self._origin = origin
        self._names = Names(config.table)
        self._statements = Statements(self._names)
        self._sessions = Sessions(config, clock)
        self._running: set[asyncio.Task[Any]] = set()
        self._held_back = False

    @property
    def deadline(self) -> float:
        return self._sessions.timeout

    async def open(self) -> None:
        self._running.clear()
        self._sessions.abandon()
        self._listener = Listener(self._sessions, channel(self._names))
        await self._sessions.open()
        try:
            await self._prepare()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if not self._sessions.is_open:
            return
        if self._running:
            await asyncio.wait(self._running)
        await self._listener.aclose()
        await self._sessions.aclose()

    # -- tables

    async def _prepare(self) -> None:
        """Make the tables where they are missing and may be made, and check them."""
        found = await self._columns(self._names.table)
        missing = [name for name in COLUMNS if name not in found]
        if found and missing:
            raise self._refused(
                f"has no column {missing[0]!r}: it is another program's; name another"
            )
        if not await self._columns(self._names.meta):
            if not self._config.create:
                raise self._refused("is missing and may not be made (create: false)")
            await self.init(with_triggers=False)
        [[version]] = await self._sessions.query(self._statements.schema_version)
        if version > SCHEMA_VERSION:
            raise self._refused(
                f"was made by a newer release (schema {version}, we know {SCHEMA_VERSION}): update"
            )

    async def _columns(self, table: str) -> set[str]:
        return {row[0] for row in await self._sessions.query(self._statements.columns, table)}

    async def init(self, *, with_triggers: bool) -> None:
        session = await self._sessions.connect()
        try:
            async with session.transaction():
                for statement in self.statements(with_triggers=with_triggers):
                    await session.execute(statement)
        except LOST as error:
            if code_of(error) == "42501":
                raise self._refused(f"can't be made by this role ({error})") from error
            raise self._sessions.unavailable(error) from error
        finally:
            session.terminate()

    def statements(self, *, with_triggers: bool) -> list[str]:
        return [*tables(self._names), *(triggers(self._names) if with_triggers else [])]

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(
            f"table {self._names.text!r} of {self._sessions.about} {why}; "
            f"'cache storage init' makes it",
            path="backend.table",
        )

    # -- rows

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        asked = [key for key in keys if "\0" not in key]  # no text column holds one
        if not asked:
            return [None] * len(keys)
        found = await self._sessions.query(self._statements.read, region, asked)
        rows = {row[0]: _row(row) for row in found}
        return [rows.get(key) for key in keys]

    async def write(
        self,
        changes: Sequence[RowChange],
        *,
        atomic: bool = False,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None = None,
    ) -> list[RowWritten | CacheError]:
        if not changes:
            return []
        return await self._to_its_end(self._write(changes, atomic, before_commit))

    async def _write(
        self,
        changes: Sequence[RowChange],
        atomic: bool,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None,
    ) -> list[RowWritten | CacheError]:
        careful = False

        async def make(session: Session) -> tuple[list[RowWritten | CacheError], bool]:
            group = Group(self._statements, self._origin, changes, careful=careful)
            return await group.make(session, atomic=atomic)

        try:
            return await self._sessions.transaction(make, before_commit)
        except SplitNeeded:
            careful = True
        return await self._sessions.transaction(make, before_commit)

    async def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        after = ""
        while found := await self._sessions.query(self._statements.page, region, after, batch_size):
            rows = [_row(each) for each in found]
            after = rows[-1].key
            yield rows

    async def clear(self, regions: Sequence[str]) -> int:
        async def make(session: Session) -> tuple[int, bool]:
            [row] = await session.fetch(self._statements.clear, list(regions), self._origin)
            return row[0], True

        return await self._to_its_end(self._sessions.transaction(make, None))

    async def _to_its_end(self, transaction: Awaitable[R]) -> R:
        """Run a transaction to its end, though the caller be cancelled."""
        task = asyncio.ensure_future(transaction)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone: nobody else would look

    # -- changes

    async def position(self) -> str:
        [[generation, xmin]] = await self._sessions.query(self._statements.position)
        return f"{generation}:{xmin}:0"

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        self._listener.clear()
        start = _start(after)
        found = await self._sessions.query(self._statements.changes, *start, limit)
        first = found[0]
        _check(after, start, first)
        rows = [row for row in found if row["id"] is not None]
        self._held_back = first["held_back"] and not rows
        if not rows:
            return [], after
        changes = [
            RowChanged(row["region"], row["key"], row["row_version"], row["origin"], row["time"])
            for row in rows
        ]
        return changes, f"{first['generation']}:{rows[-1]['xid']}:{rows[-1]['id']}"

    async def wait(self, timeout: float) -> None:
        """A commit is heard of at once, or, where it waits for an older transaction, within a
        fiftieth of a second after that has ended. Raises :class:`StorageUnavailable`.
        """
        await self._listener.wait(min(timeout, _HELD_BACK) if self._held_back else timeout)

    async def prune(self, older_than: float) -> int:
        async def make(session: Session) -> tuple[int, bool]:
            [row] = await session.fetch(self._statements.prune, older_than)
            return row[0], True

        return await self._to_its_end(self._sessions.transaction(make, None))

    async def describe(self) -> StorageInfo:
        [figures] = await self._sessions.query(self._statements.figures)
        return StorageInfo(self.kind, f"{self._sessions.about}, {self._names.text}", *figures)


def _row(found: Any) -> Row:
    key, value, codec, flags, version, ttl, tags = found
    return Row(key, Encoded(value or b"", codec, flags), version, ttl, tuple(tags))


def _start(after: str) -> tuple[int, int]:
    """The numbers of a position. Raises :class:`ChangesLost` for what is none."""
    _, *numbers = after.split(":")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        raise ChangesLost(f"{after!r} is not a position of this storage")
    return int(numbers[0]), int(numbers[1])


def _check(after: str, start: tuple[int, int], edge: Any) -> None:
    """Raise :class:`ChangesLost` for a position that can't be gone on from."""
    if not after.startswith(f"{edge['generation']}:"):
        raise ChangesLost(f"position {after!r} is not one of this database: it was made anew")
    if start < (edge["horizon_xid"], edge["horizon_id"]):
        raise ChangesLost(
            f"changes behind position {after!r} are no longer kept: what was cached before has to "
            f"go; prune less, or read them more often"
        )
    if start[0] > edge["xmin"]:
        raise ChangesLost(f"position {after!r} is not reached yet: the database was set back")
