"""Blocking functions in daemon threads, awaited from a loop.

Not the loop's own executor: a loader that hangs there would hold up interpreter exit, which joins
its threads. A thread a call is cheap beside anything worth caching.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

__all__ = ["ThreadLimit"]

T = TypeVar("T")


class ThreadLimit:
    """At most ``limit`` threads at once; a call beyond them waits for one to end.

    A cancelled call leaves its thread running and its place taken until the function returns:
    Python can't stop a thread.
    """

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)

    async def run(self, function: Callable[[], T], *, limited: bool = True) -> T:
        """Call ``function`` in a thread, with the caller's context variables.

        With ``limited=False`` it does not wait for another to end: for a call that others, which
        hold all places, may be waiting for.
        """
        if limited:
            await self._free.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()

        def settle(value: T | None, error: BaseException | None) -> None:
            if limited:
                self._free.release()
            if future.cancelled():
                if inspect.iscoroutine(value):
                    value.close()  # nobody is left to await it
                return
            if error is None:
                future.set_result(value)  # type: ignore[arg-type]
            else:
                future.set_exception(error)

        def work() -> None:
            value: T | None = None
            failure: BaseException | None = None
            try:
                value = context.run(function)
            except StopIteration as error:
                failure = RuntimeError(f"the loader raised StopIteration: {error}")
                failure.__cause__ = error
            except BaseException as error:  # noqa: BLE001 - carried to the caller, whatever it is
                failure = error
            try:
                loop.call_soon_threadsafe(settle, value, failure)
            except RuntimeError:
                return  # the loop is closed: nobody is waiting any more

        try:
            threading.Thread(target=work, name="clusterdb-cache-loader", daemon=True).start()
        except BaseException:
            if limited:
                self._free.release()
            raise
        return await future
