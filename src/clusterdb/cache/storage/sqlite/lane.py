"""A connection with a thread of its own: what is asked of it is done in order, out of the loop.

The connection is made in the thread when it is first needed. A call that is cancelled before the
thread came to it is not made; one that runs, runs to its end.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

__all__ = ["Lane"]

P = ParamSpec("P")
R = TypeVar("R")


class Lane:
    """One thread and one connection, which ``connect`` makes."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix=name)

    async def do(
        self,
        job: Callable[Concatenate[sqlite3.Connection, P], R],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        """The result of ``job``, which is given the connection."""
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
        if self._connection is None:
            self._connection = self._connect()
        return job(self._connection, *arguments, **options)

    async def aclose(self) -> None:
        """Do what waits, and close the connection. Idempotent."""
        connection = self._connection
        if connection is not None:
            await self.do(sqlite3.Connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)
