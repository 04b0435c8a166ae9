"""From a thread into an event loop and back: what the sync door stands on.

``run_in`` runs a coroutine in a loop of another thread and waits for its result, with the caller's
context variables. ``background_loop`` is the loop for programs that have none of their own: one
daemon thread a process, started when first needed, begun anew in a forked child. At interpreter
exit it closes the caches that live in it, and stops.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakSet

from .errors import WrongLoop
from .loading import call_for

__all__ = ["Caller", "background_loop", "is_background", "refuse_in_loop", "run_in"]

R = TypeVar("R")

_LOOK_EVERY: Final = 5.0
_STOP_WITHIN: Final = 2.0


class Resident(Protocol):
    """What lives in the background loop, and is closed with it."""

    async def aclose(self) -> None:
        """Close it."""
        ...


def refuse_in_loop() -> None:
    """Raise :class:`WrongLoop` when called inside a running event loop, which it would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise WrongLoop(
        "cache.sync would block the running event loop: here, use the same operation "
        "without .sync, with await"
    )


class Caller:
    """A thread that waits for a loop, and meanwhile runs what the loop asks it to.

    So a blocking loader runs in the thread of the caller whose load it is, where its connections
    and other thread-local things are.
    """

    def __init__(self) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._gone = False

    async def run(self, function: Callable[[], R], *, limited: bool = True) -> R:
        """In the loop: call ``function`` in the waiting thread, or in a thread of its own if that
        one has gone, with the present context variables. ``limited`` changes nothing.
        """
        del limited
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        work = partial(call_for, loop, future, copy_context(), function)
        with self._lock:
            if self._gone:
                _run_apart(work)
            else:
                self._inbox.put(work)
        return await future

    def leave(self) -> None:
        """From any thread: let the waiting thread go."""
        self._inbox.put(None)

    def go(self) -> None:
        """In the waiting thread, which waits no longer: leave what is still to do to others."""
        with self._lock:
            self._gone = True
        while not self._inbox.empty():
            work = self._inbox.get()
            if work is not None:
                _run_apart(work)

    def wait(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the waiting thread: run what is asked for until :meth:`leave`."""
        while True:
            try:
                work = self._inbox.get(timeout=_LOOK_EVERY)
            except Empty:
                if loop.is_running():
                    continue
                raise WrongLoop(
                    "the event loop this cache lives in has stopped: nobody will answer"
                ) from None
            if work is None:
                return
            work()


def _run_apart(work: Callable[[], None]) -> None:
    """Call ``work`` in a thread of its own."""

    def run() -> None:
        with suppress(KeyboardInterrupt, SystemExit):  # as call_for told those who wait
            work()

    threading.Thread(target=run, name="clusterdb-cache-loader", daemon=True).start()


def run_in(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, R], caller: Caller | None = None
) -> R:
    """The result of ``work``, run in ``loop``, which runs in another thread.

    An exception here while waiting, such as KeyboardInterrupt, cancels ``work``, which from here on
    is the loop's: nobody else may close it. A loop that stopped is noticed within five seconds.
    """
    outcome: Future[R] = Future()
    waiting = caller or Caller()
    context = copy_context()
    tasks: list[asyncio.Task[R]] = []
    given_up = False

    def start() -> None:
        if given_up:
            return
        task = loop.create_task(work, context=context)
        tasks.append(task)
        task.add_done_callback(hand_over)

    def hand_over(task: asyncio.Task[R]) -> None:
        if task.cancelled():
            outcome.cancel()
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())
        if loop is not _BACKGROUND.ending:  # at exit a thread that waits is left waiting
            waiting.leave()

    def give_up() -> None:
        if tasks:
            tasks[0].cancel()
        else:
            work.close()

    try:
        loop.call_soon_threadsafe(start)
        waiting.wait(loop)
    except BaseException:
        given_up = True
        if loop.is_running():
            loop.call_soon_threadsafe(give_up)
        elif not tasks:
            work.close()
        raise
    finally:
        waiting.go()
    if outcome.cancelled():
        raise WrongLoop("the event loop this cache lives in is ending, and cancelled this call")
    return outcome.result()


class _Background:
    """The one background loop of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._residents: WeakSet[Resident] = WeakSet()
        self.ending: asyncio.AbstractEventLoop | None = None

    def loop(self, resident: Resident) -> asyncio.AbstractEventLoop:
        with self._lock:
            self._residents.add(resident)
            if self._thread is None or not self._thread.is_alive():
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="clusterdb-cache-loop", daemon=True
                )
                self._thread.start()
            assert self._loop is not None
            return self._loop

    def runs(self, loop: asyncio.AbstractEventLoop) -> bool:
        return loop is self._loop

    def stop(self) -> None:
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            residents = list(self._residents)
        if loop is None or thread is None:
            return
        self.ending = loop
        loop.call_soon_threadsafe(_end, loop, residents)
        thread.join(_STOP_WITHIN)
        if not thread.is_alive():
            loop.close()

    def forked(self) -> None:
        self._lock, self._loop, self._thread = threading.Lock(), None, None
        self._residents = WeakSet()


def _end(loop: asyncio.AbstractEventLoop, residents: Iterable[Resident]) -> None:
    """In the background loop: close what lives in it, end what still runs, and stop."""

    async def end() -> None:
        await asyncio.gather(*[each.aclose() for each in residents], return_exceptions=True)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await loop.shutdown_asyncgens()

    loop.create_task(end()).add_done_callback(lambda _: loop.stop())


_BACKGROUND: Final = _Background()
atexit.register(_BACKGROUND.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_BACKGROUND.forked)


def background_loop(resident: Resident) -> asyncio.AbstractEventLoop:
    """The loop of the background thread, started if it does not run yet. ``resident`` will live in
    it, and is closed with it if that was not done before.
    """
    return _BACKGROUND.loop(resident)


def is_background(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether ``loop`` is that of the background thread."""
    return _BACKGROUND.runs(loop)
