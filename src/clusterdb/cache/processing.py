"""Event processing: handlers that are called with events, and harm nobody when they fail.

A handler has a queue and a task of its own and is called with one event at a time, in order. One
that raises, or runs past its timeout, is counted, and logged the first time; the next event comes
all the same. One that is slow fills its own queue, and is told by an :class:`EventGap` what it
lost. A coroutine function runs in the loop of the cache, a plain function in a thread: a plain one
that hangs keeps its one thread, and the events that come meanwhile count as timed out.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .errors import InvalidArgument
from .events import Event, Subscription
from .loading.threads import ThreadLimit

__all__ = ["Handling"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_END_WITHIN: Final = 1.0


class Handling:
    """A handler at work. ``handled``, ``failed`` and ``timed_out`` count its calls."""

    def __init__(
        self, handler: Callable[[Event], Any], events: Subscription[Event], timeout: float
    ) -> None:
        if not callable(handler):
            raise InvalidArgument(f"a handler is a function of one event, not {handler!r}")
        if timeout <= 0:
            raise InvalidArgument(f"a handler's timeout is above 0 seconds, not {timeout!r}")
        self._handler = handler
        self._name = getattr(handler, "__qualname__", repr(handler))
        self._events = events
        self._timeout = timeout
        self._said: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._threads: ThreadLimit | None = None
        self.handled = 0
        self.failed = 0
        self.timed_out = 0
        events.enter()

    def __repr__(self) -> str:
        done = f"{self.handled} handled, {self.failed} failed, {self.timed_out} timed out"
        return f"<Handling {self._name}: {done}>"

    def stop(self) -> None:
        """Take no more events; the handler is still called with those that are queued."""
        self._events.leave()

    # -- for the runtime

    def start(self) -> None:
        """Work in the running loop, unless that is done already."""
        loop = asyncio.get_running_loop()
        task = self._task
        if task is None or task.get_loop() is not loop:
            self._threads = None if _is_async(self._handler) else ThreadLimit(1)
            self._events.bind()
            self._task = loop.create_task(self._work(), name="clusterdb-cache: event handler")

    async def aclose(self) -> None:
        """Let the handler end with what is queued, for at most a second."""
        self.stop()
        task = self._task
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        await asyncio.wait([task], timeout=_END_WITHIN)
        task.cancel()
        await asyncio.wait([task], timeout=_END_WITHIN)

    def forked(self) -> None:
        """In the child of a fork: the parent's task is not ours."""
        self._task = None

    # -- inside

    async def _work(self) -> None:
        async for event in self._events:
            limit = asyncio.timeout(self._timeout)
            try:
                async with limit:
                    await self._call(event)
            except Exception as error:  # noqa: BLE001 - a handler may raise anything
                self._note(error, timed_out=limit.expired())
            except asyncio.CancelledError as error:
                if _is_cancelled():
                    raise
                self._note(error, timed_out=False)  # of something inside the handler
            else:
                self.handled += 1

    async def _call(self, event: Event) -> None:
        if self._threads is None:
            await self._handler(event)
            return
        result = await self._threads.run(partial(self._handler, event))
        if inspect.isawaitable(result):  # a plain function that returned a coroutine
            await result

    def _note(self, error: BaseException, *, timed_out: bool) -> None:
        if timed_out:
            self.timed_out += 1
            kind, what = "timeout", f"ran past its timeout of {self._timeout:g} s"
        else:
            self.failed += 1
            kind, what = "error", f"raised {type(error).__name__}"
        if kind not in self._said:
            self._said.add(kind)
            message = "event handler %s %s; this is logged once, and counted"
            _LOG.warning(message, self._name, what, exc_info=None if timed_out else error)


def _is_async(handler: Callable[..., Any]) -> bool:
    call = getattr(handler, "__call__", None)  # noqa: B004 - of an object with `async __call__`
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
