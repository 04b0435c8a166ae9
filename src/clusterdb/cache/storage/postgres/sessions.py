"""Connections of one storage, and what is done on them: a read, or a transaction.

A read is made again once where its connection turns out to be dead, as those of a server that was
restarted are. A transaction that lost to others, or whose connection died before it asked to
commit, is made again within a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from ...clock import Clock
from ...config import PostgreSQL
from ...config.secrets import masked
from ...errors import CacheError, OutcomeUnknown, StorageUnavailable
from .faults import LOST, code_of, is_lost, is_race, translated
from .lending import Lender, Session, is_usable

__all__ = ["Session", "Sessions"]

T = TypeVar("T")

_ATTEMPTS: Final = 6
_GRACE: Final = 1.0
"""How much longer than the server we wait for it to end a statement itself, in seconds."""


class Sessions:
    """The pool of one storage."""

    def __init__(self, config: PostgreSQL, clock: Clock) -> None:
        self._config = config
        self._now = clock.now
        self._lender: Lender | None = None
        self._process = os.getpid()
        self.timeout = config.pool.timeout
        self.about = f"storage {masked(config.url)!r}"

    async def open(self) -> None:
        """Connect. Raises :class:`StorageUnavailable`."""
        pool = self._config.pool
        self._process = os.getpid()
        try:
            made: Any = await asyncpg.create_pool(
                self._config.url,
                min_size=pool.min_connections,
                max_size=pool.max_connections,
                max_inactive_connection_lifetime=pool.idle_timeout,
                timeout=pool.connect_timeout,
                command_timeout=self.timeout + _GRACE,
                reset=_as_it_is,
            )
        except (*LOST, ValueError) as error:
            raise self.unavailable(error) from error
        self._lender = Lender(made, self.timeout)

    async def connect(self) -> Session:
        """A connection outside of the pool, for who listens."""
        try:
            return await asyncpg.connect(
                self._config.url,
                timeout=self._config.pool.connect_timeout,
                command_timeout=self.timeout + _GRACE,
            )
        except (*LOST, ValueError) as error:
            raise self.unavailable(error) from error

    async def aclose(self) -> None:
        """Close all connections. Idempotent."""
        lender, self._lender = self._lender, None
        if lender is None:
            return
        try:
            async with asyncio.timeout(self.timeout):
                await lender.aclose()
        except (*LOST, RuntimeError):
            lender.terminate()

    def abandon(self) -> None:
        """Let go of connections whose loop has ended."""
        self._lender = None

    @property
    def is_open(self) -> bool:
        """Whether there is a pool."""
        return self._lender is not None

    def unavailable(self, error: BaseException) -> CacheError:
        """Our error for one of the driver's."""
        return translated(error, self.about, self.timeout)

    # -- what is done on them

    async def query(self, statement: str, *arguments: object) -> list[Any]:
        """The answer of a statement that only reads."""

        async def ask(session: Session) -> list[Any]:
            found: list[Any] = await session.fetch(statement, *arguments)
            return found

        return await self.attempt(ask)

    async def attempt(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """Do something on a connection, again where that is no harm: it must not commit."""
        for attempt in range(_ATTEMPTS):
            try:
                return await self._once(work)
            except CacheError:  # ours, which are errors of a connection too, are final
                raise
            except LOST as error:
                last = attempt + 1 == _ATTEMPTS or (attempt and is_lost(error))
                if last or not (is_race(error) or is_lost(error)):
                    raise self.unavailable(error) from error
            await asyncio.sleep(random.uniform(0, 0.002 * 2**attempt))
        raise AssertionError("unreachable")

    async def _once(self, work: Callable[[Session], Awaitable[T]]) -> T:
        lender = self._lender
        if lender is None:
            raise StorageUnavailable(f"{self.about} is closed")
        if os.getpid() != self._process:  # what we sent would get among what the parent sends
            raise StorageUnavailable(f"{self.about} was opened before a fork: open it again")
        session = await lender.borrow()
        try:
            return await work(session)
        finally:
            await lender.give_back(session)

    async def transaction(
        self,
        make: Callable[[Session], Awaitable[tuple[T, bool]]],
        before_commit: Callable[[T], Awaitable[None]] | None,
    ) -> T:
        """Make changes and commit them, where ``make`` says that there is something to commit.

        The server ends a transaction that waits longer than the timeout for us: nothing is
        committed once a fence that stands longer is gone.
        """

        async def work(session: Session) -> tuple[T, BaseException | None]:
            await session.execute(self._begin())
            made, commits = await make(session)
            if not commits:
                await session.execute("ROLLBACK")
                return made, None
            began = self._now()
            try:
                if before_commit is not None:
                    await self._bounded(before_commit(made))
                self._check_time(began)
            except BaseException as error:  # noqa: BLE001 - it goes on below, past the retries
                with contextlib.suppress(*LOST):
                    await session.execute("ROLLBACK")
                return made, error
            await self._commit(session)
            return made, None

        made, error = await self.attempt(work)
        if error is not None:
            raise error
        return made

    def _begin(self) -> str:
        limit = max(2, int(self.timeout * 1000))
        lock = limit * 9 // 10  # the first to go off, so that the error names the lock
        return (
            "BEGIN ISOLATION LEVEL READ COMMITTED; "
            f"SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {lock}; "
            f"SET LOCAL idle_in_transaction_session_timeout = {limit}; "
            "SET LOCAL clusterdb_cache.writer = 'on'"
        )

    async def _bounded(self, what: Awaitable[None]) -> None:
        limit = asyncio.timeout(self.timeout)
        try:
            async with limit:
                await what
        except TimeoutError:
            if limit.expired():
                raise self._late() from None
            raise

    def _check_time(self, began: float) -> None:
        """This process may have been stopped meanwhile."""
        if self._now() - began > self.timeout:
            raise self._late()

    def _late(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"{self.about}: what is done before the commit took longer than {self.timeout:g} s "
            f"(pool.timeout); nothing was written"
        )

    async def _commit(self, session: Session) -> None:
        if not is_usable(session):
            raise StorageUnavailable(
                f"{self.about}: the server ended the transaction before its commit; nothing was "
                f"written"
            )
        try:
            answer = await session.execute("COMMIT")
        except LOST as error:
            raise self._of_commit(error) from error
        if answer != "COMMIT":
            raise StorageUnavailable(f"{self.about}: the transaction had failed; nothing written")

    def _of_commit(self, error: Exception) -> CacheError:
        code = code_of(error)
        if code and not code.startswith(("08", "57")):
            return self.unavailable(error)
        return OutcomeUnknown(
            f"{self.about}: no reply to a commit ({masked(str(error)) or type(error).__name__}): "
            f"it may have been made or not; read the row to know"
        )


async def _as_it_is(session: Session) -> None:
    """Nothing is to be reset: all settings are those of a transaction."""
    del session
