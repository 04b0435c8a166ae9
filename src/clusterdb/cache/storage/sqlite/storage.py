"""Storage in a SQLite file: a table, its outbox, one writing thread, one reading thread.

Each call of ``write`` is a transaction that is durable when it returns (WAL, ``synchronous =
FULL``); whoever has many writers puts their changes into one call. Readers see the last commit and
never wait for a writer. The outbox's order is that of the commits, as there is one writer at a
time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import ClassVar, Final, TypeVar

from ...clock import Clock
from ...config import SQLite
from ...errors import CacheError, OutcomeUnknown, StorageUnavailable
from ...rows import (
    Row,
    RowChange,
    RowChanged,
    RowWritten,
    StorageCapability,
    StorageInfo,
)
from ...upkeep import Space
from ..names import Names
from .faults import driver_errors
from .file import StorageFile
from .lane import Lane
from .mapped import MappedRows
from .outbox import Outbox
from .own import OwnRows
from .statements import Rows, Statements

__all__ = ["SQLiteStorage"]

R = TypeVar("R")

_POLL: Final = 0.02


class SQLiteStorage:
    """A table of a SQLite file. ``origin`` is what others read of our changes."""

    kind: ClassVar[str] = "sqlite"

    def __init__(self, config: SQLite, clock: Clock, origin: str = "") -> None:
        names = Names(config.table if config.rows is None else config.rows.table)
        outbox = Outbox(names, origin)
        rows: Rows = OwnRows(names)
        if config.rows is not None:
            rows = MappedRows(names, config.rows, outbox)
        self._file = StorageFile(config, rows)
        self._clock = clock
        self._rows = rows
        self._statements = Statements(rows, outbox)
        self._open = False
        self._seen = -1
        self._running: set[asyncio.Task[object]] = set()

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        return self._rows.capabilities

    @property
    def deadline(self) -> float:
        return self._file.timeout

    async def open(self) -> None:
        if self._open:  # in a loop that has ended, and its tasks with it
            self._running.clear()
            await self.aclose()
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._writer = Lane("clusterdb-storage-writer", self._file.connect)
        self._reader = Lane("clusterdb-storage-reader", self._file.connect)
        self._open = True
        try:
            await self._writer.do(self._file.prepare)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if not self._open:
            return
        self._open = False
        if self._running:
            await asyncio.wait(self._running)
        await self._reader.aclose()  # before the other: two that close at once leave the log behind
        await self._writer.aclose()

    # -- tables

    def statements(self, *, with_triggers: bool) -> list[str]:
        return self._file.statements(with_triggers=with_triggers)

    async def init(self, *, with_triggers: bool) -> None:
        lane = Lane("clusterdb-storage-init", partial(self._file.connect, create=True))
        try:
            await lane.do(self._file.init, with_triggers=with_triggers)
        finally:
            await lane.aclose()

    # -- rows

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        return await self._look(self._statements.read, region, keys, self._clock.wall())

    async def write(
        self,
        changes: Sequence[RowChange],
        *,
        atomic: bool = False,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None = None,
    ) -> list[RowWritten | CacheError]:
        def make(connection: sqlite3.Connection) -> tuple[list[RowWritten | CacheError], bool]:
            return self._statements.write(connection, changes, atomic, self._clock.wall())

        return await self._transact(make, before_commit)

    async def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        after = ""
        while rows := await self._look(
            self._statements.page, region, after, batch_size, self._clock.wall()
        ):
            after = rows[-1].key
            yield rows

    async def clear(self, regions: Sequence[str]) -> int:
        now = self._clock.wall()
        return await self._transact(
            lambda found: (self._statements.clear(found, regions, now), True)
        )

    # -- changes

    async def position(self) -> str:
        return await self._look(self._statements.position)

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        self._changed.clear()
        self._seen = await self._look(_data_version)
        return await self._look(self._statements.changes, after, limit)

    async def wait(self, timeout: float) -> None:
        """Another process's commit is seen within a fiftieth of a second, our own at once."""
        now = asyncio.get_running_loop().time
        end = now() + timeout
        while not self._changed.is_set() and (left := end - now()) > 0:
            if await self._look(_data_version) != self._seen:
                return
            try:
                await asyncio.wait_for(self._changed.wait(), min(_POLL, left))
            except TimeoutError:
                continue

    async def prune(self, older_than: float) -> int:
        before = self._clock.wall() - older_than
        return await self._transact(lambda found: (self._statements.prune(found, before), True))

    async def space(self) -> list[Space]:
        size, dead = await self._look(_pages)
        advice = f"run VACUUM on {self._file.path} while nobody writes to it"
        return [Space(name=f"storage file {self._file.path}", size=size, dead=dead, advice=advice)]

    async def describe(self) -> StorageInfo:
        figures = await self._look(self._statements.figures, self._clock.wall())
        return StorageInfo(self.kind, f"{self._file.path}:{self._file.names.text}", *figures)

    # -- inside

    async def _look(self, job: Callable[..., R], *arguments: object) -> R:
        """Read in the reading thread."""
        self._check_open()

        def run(connection: sqlite3.Connection) -> R:
            with driver_errors(self._file.path, self._file.timeout):
                return job(connection, *arguments)

        return await self._reader.do(run)

    def _check_open(self) -> None:
        if not self._open:
            raise StorageUnavailable(f"storage file {str(self._file.path)!r} is closed")

    async def _transact(
        self,
        make: Callable[[sqlite3.Connection], tuple[R, bool]],
        before_commit: Callable[[R], Awaitable[None]] | None = None,
    ) -> R:
        """Run a transaction to its end, though the caller be cancelled."""
        self._check_open()
        task = asyncio.create_task(self._transaction(make, before_commit))
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone: nobody else would look

    async def _transaction(
        self,
        make: Callable[[sqlite3.Connection], tuple[R, bool]],
        before_commit: Callable[[R], Awaitable[None]] | None,
    ) -> R:
        async with self._turn():
            made, commits = await self._writer.do(self._begin, make)
            if not commits:
                await self._writer.do(_roll_back)
                return made
            began = self._clock.now()
            try:
                if before_commit is not None:
                    await self._bounded(before_commit(made))
            except BaseException:
                await self._writer.do(_roll_back)
                raise
            await self._writer.do(self._commit, began)
        self._changed.set()
        return made

    def _begin(
        self,
        connection: sqlite3.Connection,
        make: Callable[[sqlite3.Connection], tuple[R, bool]],
    ) -> tuple[R, bool]:
        with driver_errors(self._file.path, self._file.timeout):
            connection.execute("BEGIN IMMEDIATE")
            try:
                return make(connection)
            except BaseException:
                _roll_back(connection)
                raise

    def _commit(self, connection: sqlite3.Connection, began: float) -> None:
        if self._clock.now() - began > self.deadline:  # this process was stopped meanwhile
            _roll_back(connection)
            raise self._late()
        try:
            with driver_errors(self._file.path, self._file.timeout, committing=True):
                connection.execute("COMMIT")
        except (StorageUnavailable, OutcomeUnknown):
            _roll_back(connection)
            raise

    async def _bounded(self, what: Awaitable[None]) -> None:
        limit = asyncio.timeout(self.deadline)
        try:
            async with limit:
                await what
        except TimeoutError:
            if limit.expired():
                raise self._late() from None
            raise

    def _late(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"storage file {str(self._file.path)!r}: what is done before the commit took longer "
            f"than {self.deadline:g} s (timeout); nothing was written"
        )

    def _turn(self) -> _Turn:
        return _Turn(self._writing, self._file)


class _Turn:
    """``async with``: the only transaction of this process, or :class:`StorageUnavailable`."""

    def __init__(self, lock: asyncio.Lock, file: StorageFile) -> None:
        self._lock = lock
        self._file = file

    async def __aenter__(self) -> None:
        try:
            await asyncio.wait_for(self._lock.acquire(), 2 * self._file.timeout)
        except TimeoutError:
            raise StorageUnavailable(
                f"storage file {str(self._file.path)!r}: writes of this process have waited for "
                f"over {2 * self._file.timeout:g} s for each other; nothing was written"
            ) from None

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


def _data_version(connection: sqlite3.Connection) -> int:
    """A number that changes with each commit of another connection."""
    [found] = connection.execute("PRAGMA data_version").fetchone()
    return int(found)


def _pages(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many pages the file has, and how many of them hold nothing."""
    [size] = connection.execute("PRAGMA page_count").fetchone()
    [dead] = connection.execute("PRAGMA freelist_count").fetchone()
    return int(size), int(dead)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:  # it was rolled back by what went wrong
            return
