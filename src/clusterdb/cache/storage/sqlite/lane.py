"""A connection with a thread of its own: what is asked of it is done in order, out of the loop.

The connection is made in the thread when it is first needed. A call that is cancelled before the
thread came to it is not made; one that runs, runs to its end.

A fork waits for the statement that runs. In the child the connections are closed before others are
made: it has none of the locks that the library believes in, and a new connection to the file would
share that belief. One that is in a transaction is not ours to end, and left as it is.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from typing import Concatenate, Final, ParamSpec, TypeVar
from weakref import WeakSet

from ...errors import StorageUnavailable

__all__ = ["Lane"]

P = ParamSpec("P")
R = TypeVar("R")


class Lane:
    """One thread and one connection, which ``connect`` makes."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)
        self._busy = threading.Lock()
        self._forked = False
        _LANES.add(self)

    async def do(
        self,
        job: Callable[Concatenate[sqlite3.Connection, P], R],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """The result of ``job``, which is given the connection."""
        if self._forked:
            raise StorageUnavailable(
                "this storage was opened before a fork, in another process: open it again"
            )
        try:
            future = self._thread.submit(partial(self._run, job, *arguments, **options))
        except RuntimeError:  # the interpreter is ending: nobody else is there to wait for
            return self._run(job, *arguments, **options)
        return await asyncio.wrap_future(future)

    def _run(
        self,
        job: Callable[Concatenate[sqlite3.Connection, P], R],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        with self._busy:
            if self._connection is None:
                self._connection = self._connect()
            return job(self._connection, *arguments, **options)

    async def renew(self, job: Callable[[sqlite3.Connection], bool]) -> bool:
        """Whether ``job`` has closed the connection, as it may: the next call makes another."""

        def run(connection: sqlite3.Connection) -> bool:
            closed = job(connection)
            if closed:
                self._connection = None
            return closed

        return await self.do(run)

    async def aclose(self) -> None:
        """Do what waits, and close the connection. Idempotent."""
        if self._forked:
            return
        if self._connection is not None:
            await self.do(sqlite3.Connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    # -- around a fork

    def hold(self) -> None:
        """Before it: wait for the statement that runs."""
        self._busy.acquire()

    def resume(self) -> None:
        """After it, in the parent."""
        self._busy.release()

    def abandon(self) -> None:
        """After it, in the child."""
        self._forked = True
        if self._connection is not None and not self._connection.in_transaction:
            self._connection.close()
            self._connection = None


_LANES: Final[WeakSet[Lane]] = WeakSet()
_HELD: Final[list[Lane]] = []
"""Those that a fork waits for: one that another thread makes meanwhile is not among them."""


def _hold() -> None:
    _HELD.extend(_LANES)
    for lane in _HELD:
        lane.hold()


def _let_go(act: Callable[[Lane], None]) -> None:
    for lane in _HELD:
        act(lane)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_hold,
        after_in_parent=partial(_let_go, Lane.resume),
        after_in_child=partial(_let_go, Lane.abandon),
    )
