"""Blocking functions in other threads, awaited from a loop.

Not the loop's own executor: a loader that hangs there would hold up interpreter exit, which joins
its threads. A daemon thread a call is cheap beside anything worth caching.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, Protocol, TypeVar

from ..errors import LoadCancelled

__all__ = ["BlockingRunner", "ThreadLimit", "call_for"]

T = TypeVar("T")


class BlockingRunner(Protocol):
    """Whoever runs blocking loaders."""

    async def run(self, function: Callable[[], T], *, limited: bool = True) -> T:
        """Call ``function`` in another thread, with the present context variables.

        With ``limited=False`` it does not wait for another to end: for a call that others, which
        hold all places, may be waiting for.
        """
        ...


def call_for(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    context: Context,
    function: Callable[[], Any],
) -> None:
    """In any thread: call ``function`` and settle ``future``, which is of ``loop``."""
    value: Any = None
    failure: BaseException | None = None
    try:
        value = context.run(function)
    except StopIteration as error:
        failure = RuntimeError(f"the loader raised StopIteration: {error}")
        failure.__cause__ = error
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - carried to the caller
        failure = error
    except BaseException as error:  # meant for this thread alone, not for who else waits
        failure = LoadCancelled([], f"the loader was stopped by {type(error).__name__}")
        failure.__cause__ = error
        _settle(loop, future, None, failure)
        raise
    _settle(loop, future, value, failure)


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Any],
    value: Any,
    failure: BaseException | None,
) -> None:
    def settle() -> None:
        if future.cancelled():
            _drop(value)
        elif failure is None:
            future.set_result(value)
        else:
            future.set_exception(failure)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed: nobody is waiting any more
        _drop(value)


def _drop(value: Any) -> None:
    """Nobody is left to await a value that is a coroutine."""
    if inspect.iscoroutine(value):
        value.close()


class ThreadLimit:
    """A daemon thread a call, at most ``limit`` at once; a call beyond them waits for one to end.

    A cancelled call leaves its thread running and its place taken until the function returns:
    Python can't stop a thread.
    """

    def __init__(self, limit: int) -> None:
        self._free = asyncio.Semaphore(limit)

    async def run(self, function: Callable[[], T], *, limited: bool = True) -> T:
        """See :class:`BlockingRunner`."""
        if limited:
            await self._free.acquire()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()

        def work() -> None:
            with suppress(KeyboardInterrupt, SystemExit):
                call_for(loop, future, context, function)
            if limited:
                try:
                    loop.call_soon_threadsafe(self._free.release)
                except RuntimeError:
                    return  # the loop is closed

        try:
            threading.Thread(target=work, name="clusterdb-cache-loader", daemon=True).start()
        except BaseException:
            if limited:
                self._free.release()
            raise
        return await future
