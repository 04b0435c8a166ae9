"""Storage in a PostgreSQL database: a table, its outbox, and a channel that wakes who reads it.

Writers lock rows in the order of their keys, write all of a group in one statement and commit once.
A change is told once every transaction that began before its own has ended: none comes late. A
transaction that stays open for long, of whatever program of the same server, holds all changes back
as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, ClassVar, Final, TypeVar

from ...clock import Clock
from ...config import PostgreSQL
from ...errors import CacheError, ConfigError, NotSupported
from ...rows import (
    Row,
    RowChange,
    RowChanged,
    RowWritten,
    StorageCapability,
    StorageInfo,
)
from ...upkeep import Space
from .. import migrations
from ..names import Names
from .faults import LOST, code_of
from .listening import Listener
from .mapped import MappedTable
from .outbox import OutboxSql, check_position, read_position, told
from .own import OwnTable
from .schema import LOCK, channel
from .sessions import Session, Sessions
from .table import Table
from .writing import Group, SplitNeeded

__all__ = ["PostgresStorage"]

R = TypeVar("R")

_HELD_BACK: Final = 0.02
"""How soon to look again at changes that wait for an older transaction: nobody tells of its end."""

_MIGRATION: Final = 3600.0
"""How long a statement of `cache storage init` may take, in seconds: a table may be large."""

_LONG_OPEN: Final = 10.0
"""From when on an open transaction is told of, in seconds."""


_DEAD_ROWS: Final = """
SELECT names.name, s.n_live_tup::int8, s.n_dead_tup::int8
FROM unnest($1::text[]) AS names (name)
JOIN pg_stat_user_tables AS s ON s.relid = to_regclass(names.name)"""

_COLUMNS: Final = (
    "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
    "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
)
_UNIQUE: Final = (
    "SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a "
    "ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] "
    "WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indpred IS NULL "
    "AND i.indnkeyatts = 1"
)


class PostgresStorage:
    """A table of a PostgreSQL database. ``origin`` is what others read of our changes."""

    kind: ClassVar[str] = "postgresql"

    def __init__(self, config: PostgreSQL, clock: Clock, origin: str = "") -> None:
        self._config = config
        self._origin = origin
        self._names = Names(config.table if config.rows is None else config.rows.table)
        self._table: Table = OwnTable(self._names)
        if config.rows is not None:
            self._table = MappedTable(self._names, config.rows)
        self._outbox = OutboxSql(self._names)
        self._sessions = Sessions(config, clock)
        self._running: set[asyncio.Task[Any]] = set()
        self._held_back = False

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        return self._table.capabilities

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
        needs_more = bool(self._table.tables())
        made = needs_more and bool(await self._columns(self._names.meta))
        if made:
            self._check_form(await self._sessions.query(self._outbox.schema_version))
        found = await self._columns(self._names.table)
        unique = await self._sessions.query(_UNIQUE, self._names.table)
        wrong = self._table.check(found, {row[0] for row in unique})
        if wrong and (found or not self._table.makes_table):
            raise self._refused(f"{wrong}: name another, or mend it")
        if made or not needs_more:
            return
        if not self._config.create:
            raise self._refused(
                "needs tables that are missing and may not be made (create: false): "
                "'cache storage init' makes them"
            )
        await self.init(with_triggers=False)

    def _check_form(self, found: Sequence[Any]) -> None:
        wrong = migrations.unusable(migrations.POSTGRES, found[0][0] if found else None)
        if wrong:
            raise self._refused(wrong)

    async def _columns(self, table: str) -> dict[str, str]:
        """The columns of a table with their types; none where there is no table."""
        return {row[0]: row[1] for row in await self._sessions.query(_COLUMNS, table)}

    async def init(self, *, with_triggers: bool) -> None:
        session = await self._sessions.connect()
        try:
            async with session.transaction():
                await session.execute(f"SET LOCAL lock_timeout = {int(self.deadline * 1000)}")
                await session.execute(LOCK)
                steps = await self._steps(session)
                for statement in [*steps, *self.statements(with_triggers=with_triggers)]:
                    await session.execute(statement, timeout=_MIGRATION)
        except LOST as error:
            if code_of(error) == "42501":
                raise self._refused(
                    f"needs tables that this role may not make ({error}): "
                    f"let one that may run 'cache storage init'"
                ) from error
            raise self._sessions.unavailable(error) from error
        finally:
            session.terminate()

    async def _steps(self, session: Session) -> list[str]:
        """What makes tables of an older form into such of ours."""
        if await session.fetchval("SELECT to_regclass($1)", self._names.meta) is None:
            return []
        version = await session.fetchval(self._outbox.schema_version)
        steps = migrations.POSTGRES
        if version is None:
            return []
        if version > migrations.newest(steps):
            raise self._refused(migrations.unusable(steps, version))
        return migrations.ahead(steps, version, self._names, own=self._table.makes_table)

    def statements(self, *, with_triggers: bool) -> list[str]:
        return [*self._table.tables(), *(self._table.triggers() if with_triggers else [])]

    def _refused(self, why: str) -> ConfigError:
        return ConfigError(
            f"table {self._names.text!r} of {self._sessions.about} {why}",
            path="backend.table",
        )

    # -- rows

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        self._table.check_region(region)
        stored = {key: self._table.stored(key) for key in keys}
        asked = [each for each in stored.values() if each is not None]
        if not asked:
            return [None] * len(keys)
        found = await self._sessions.query(self._table.read, region, asked)
        rows = {row.key: row for row in map(self._table.row, found)}
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
            group = Group(self._table, self._origin, changes, careful=careful)
            return await group.make(session, atomic=atomic)

        try:
            return await self._sessions.transaction(make, before_commit)
        except SplitNeeded:
            careful = True
        return await self._sessions.transaction(make, before_commit)

    async def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        self._table.check_region(region)
        after: object = None
        while found := await self._sessions.query(self._table.page, region, after, batch_size):
            rows = [self._table.row(each) for each in found]
            after = self._table.stored(rows[-1].key)
            yield rows

    async def clear(self, regions: Sequence[str]) -> int:
        async def make(session: Session) -> tuple[int, bool]:
            [row] = await session.fetch(self._table.clear, list(regions), self._origin)
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

    def _check_told(self) -> None:
        if "changes" not in self.capabilities:
            raise NotSupported(
                f"table {self._names.text!r} tells of no changes: name its rows.version_column"
            )

    async def position(self) -> str:
        self._check_told()
        [[generation, xmin]] = await self._sessions.query(self._outbox.position)
        return f"{generation}:{xmin}:0"

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        self._check_told()
        self._listener.clear()
        start = read_position(after)
        found = await self._sessions.query(self._outbox.changes, *start, limit)
        edge = found[0]
        check_position(after, start, edge)
        empty = edge["id"] is None
        self._held_back = edge["held_back"] and empty
        if empty:
            return [], after
        xid, line = max([(line["xid"], line["id"]) for line in found])
        return told(found), f"{edge['generation']}:{xid}:{line}"

    async def wait(self, timeout: float) -> None:
        """A commit is heard of at once, or, where it waits for an older transaction, within a
        fiftieth of a second after that has ended. Raises :class:`StorageUnavailable`.
        """
        self._check_told()
        await self._listener.wait(min(timeout, _HELD_BACK) if self._held_back else timeout)

    async def prune(self, older_than: float) -> int:
        async def make(session: Session) -> tuple[int, bool]:
            [row] = await session.fetch(self._table.prune, older_than)
            return row[0], True

        return await self._to_its_end(self._sessions.transaction(make, None))

    async def space(self) -> list[Space]:
        names = [self._names.table, self._names.outbox]
        found = await self._sessions.query(_DEAD_ROWS, names)
        return [
            Space(
                name=f"table {name} of {self._sessions.about}",
                size=live + dead,
                dead=dead,
                advice=f"{dead:,} dead rows: VACUUM (ANALYZE) {name}",
            )
            for name, live, dead in found
        ]

    async def describe(self) -> StorageInfo:
        [figures] = await self._sessions.query(self._table.figures)
        problems = await self._held_up() if "changes" in self.capabilities else ()
        name = f"{self._sessions.about}, {self._names.text}"
        rows, deleted, lines = figures
        return StorageInfo(self.kind, name, rows, deleted, lines, problems)

    async def _held_up(self) -> tuple[str, ...]:
        """Who keeps changes from being told for so long that a person should look."""
        found = await self._sessions.query(self._outbox.holders)
        if not found or found[0][1] < _LONG_OPEN:
            return ()
        pid, age = found[0]
        problem = (
            f"a transaction of process {pid} of the server has been open for {age:.0f} s, and no "
            f"change since is told of before it ends: end it, or pg_terminate_backend({pid})"
        )
        return (problem,)
