"""The one thread that writes a cache file: waiting calls share a transaction.

Jobs come from the event loop, or from threads that block meanwhile. The thread takes all that
wait, runs them in one transaction, commits, and hands all results back in one go: the dearer a
commit, the more calls share the next one. A job is answered once: with its result after the commit,
or with an error.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, TypeVar

from ...errors import BackendUnavailable, CacheError, OutcomeUnknown
from ..offloop import off_loop
from .file import CacheFile, driver_errors
from .rows import Effects
from .transaction import Transaction

__all__ = ["Begin", "Job", "Writer"]

T = TypeVar("T")

Job: TypeAlias = Callable[[Transaction], T]
"""What is done in a transaction; raises a :class:`CacheError` before it changed anything."""

Begin: TypeAlias = Callable[[sqlite3.Connection], Transaction]
"""Makes the transaction that was begun in a connection."""

Delivered: TypeAlias = Callable[[Effects | None], None]
"""Told in the loop, before its callers go on, what a transaction did; ``None``: nobody knows."""

_MOST_JOBS: Final = 1_000
_STOP: Final = None


class _Waiting:
    """A job and who waits for it."""

    __slots__ = ("future", "job", "result")

    def __init__(
        self, job: Job[Any], future: asyncio.Future[Any] | concurrent.futures.Future[Any]
    ) -> None:
        self.job = job
        self.future = future
        self.result: Any = None


class Writer:
    """The writing thread of one open file, for one event loop."""

    def __init__(
        self,
        file: CacheFile,
        begin: Begin,
        failed: Callable[[], None],
        delivered: Delivered,
        committed: Callable[[], None],
    ) -> None:
        self._file = file
        self._begin = begin
        self._failed = failed
        self._delivered = delivered
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._jobs: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._limit = 2 * file.timeout + 1
        self.connection = file.connect()
        self._writing = threading.Lock()
        self._thread = threading.Thread(
            target=self._work, name="clusterdb-cache-writer", daemon=True
        )
        self._thread.start()

    async def do(self, job: Job[T]) -> T:
        """Run a job and wait for its commit.

        Raises what the job does, :class:`BackendUnavailable` where nothing was written, and
        :class:`OutcomeUnknown` where that can't be told. In another thread than the loop's it
        blocks that thread instead of suspending.
        """
        if threading.get_ident() != self._loop_thread:
            return self._wait_for(job)
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Waiting(job, future))
        limit = self._loop.call_later(self._limit, self._late, future)
        try:
            return await future
        finally:
            limit.cancel()

    def _wait_for(self, job: Job[T]) -> T:
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._jobs.put(_Waiting(job, answer))
        try:
            return answer.result(self._limit)
        except concurrent.futures.TimeoutError:
            raise self._no_answer() from None

    def _late(self, future: asyncio.Future[Any]) -> None:
        if not future.done():
            future.set_exception(self._no_answer())

    def _no_answer(self) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"cache file {str(self._file.path)!r}: the disk has not answered for "
            f"{self._limit:g} s; the write may be made later, or not"
        )

    def stop(self) -> None:
        """Let the thread do what waits and end."""
        self._jobs.put(_STOP)

    async def aclose(self) -> None:
        """Do what waits, and end the thread."""
        self.stop()
        await self.ended()

    async def ended(self) -> None:
        """Wait for the end of the thread."""
        await off_loop(self._thread.join, self._limit)

    def hold(self) -> None:
        """Before a fork: wait for the transaction that runs."""
        self._writing.acquire()

    def resume(self) -> None:
        """After it."""
        self._writing.release()

    # -- in the thread

    def _work(self) -> None:
        while True:
            waiting = self._next()
            if waiting:
                with self._writing:
                    self._transact(waiting)
            if self._ending:
                break
        self.connection.close()

    _ending = False

    def _next(self) -> list[_Waiting]:
        """All jobs that wait, at least one unless it is the end."""
        found: list[_Waiting] = []
        job = self._jobs.get()
        while True:
            if job is _STOP:
                self._ending = True
                return found
            found.append(job)
            if len(found) == _MOST_JOBS:
                return found
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return found

    def _transact(self, waiting: Sequence[_Waiting]) -> None:
        committing = False
        try:
            with driver_errors(self._file):
                self._file.check_identity()
                self.connection.execute("BEGIN IMMEDIATE")
                transaction = self._begin(self.connection)
                for each in waiting:
                    try:
                        each.result = each.job(transaction)
                    except CacheError as error:
                        each.result = error
                transaction.rows.finish()
            with driver_errors(self._file, committing=True):
                committing = True
                self.connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - it is given to those who wait
            self._roll_back()
            self._failed()
            failure = error if isinstance(error, CacheError) else _unexpected(error)
            for each in waiting:
                each.result = failure
            unknown = committing and isinstance(failure, OutcomeUnknown)
            self._answer(waiting, None if unknown else Effects())
        else:
            self._answer(waiting, transaction.rows.effects)
            self._committed()

    def _roll_back(self) -> None:
        if self.connection.in_transaction:
            try:
                self.connection.execute("ROLLBACK")
            except sqlite3.Error:  # it was rolled back by what went wrong
                return

    def _answer(self, waiting: Sequence[_Waiting], effects: Effects | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, waiting, effects)
        except RuntimeError:  # the loop was closed, and with it all who waited
            return

    def _tell(self, waiting: Sequence[_Waiting], effects: Effects | None) -> None:
        try:
            self._delivered(effects)
        finally:
            for each in waiting:
                if each.future.done():
                    continue
                if isinstance(each.result, BaseException):
                    each.future.set_exception(each.result)
                else:
                    each.future.set_result(each.result)


def _unexpected(error: BaseException) -> CacheError:
    failure = BackendUnavailable(f"the writer of the cache file failed: {error!r}")
    failure.__cause__ = error
    return failure
