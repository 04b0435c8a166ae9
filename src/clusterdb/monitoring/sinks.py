"""Where alerts go, and how: each sink has a queue and a deadline of its own, and can harm nobody.

A sink is a function of one :class:`Alert`, plain or asynchronous. One that raises or runs past its
deadline is counted, and logged the first time; one that is slow fills its own queue, whose oldest
alerts are then dropped and counted. A plain function runs in a daemon thread: one that hangs keeps
that thread, the alerts that come meanwhile are dropped, and the program can still end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

import msgspec

from .alerts import Alert

__all__ = ["Delivery", "Outcomes", "Sink", "deliver", "log_alert"]

_LOG: Final = logging.getLogger("clusterdb.monitoring")

Sink: TypeAlias = Callable[[Alert], Awaitable[None] | None]
"""What alerts are given to."""


async def log_alert(alert: Alert) -> None:
    """The sink that logs to ``clusterdb.monitoring``: a warning, and an info when it is over."""
    level = logging.WARNING if alert.state == "firing" else logging.INFO
    _LOG.log(level, "%s", alert.text)


class Outcomes(msgspec.Struct):
    """What became of the alerts of one sink."""

    sent: int = 0
    failed: int = 0
    timed_out: int = 0
    dropped: int = 0


class Delivery:
    """Gives alerts to one sink, each within ``timeout`` seconds, at most ``queue`` waiting."""

    def __init__(self, sink: Sink, *, timeout: float = 10.0, queue: int = 100) -> None:
        self.name = getattr(sink, "__name__", type(sink).__name__)
        self.outcomes = Outcomes()
        self._sink = sink
        self._is_async = inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(
            getattr(sink, "__call__", None)  # noqa: B004 - of an object with `async __call__`
        )
        self._timeout = timeout
        self._queue: deque[Alert] = deque()
        self._most = queue
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        self._said: set[str] = set()

    def offer(self, alerts: Iterable[Alert]) -> None:
        """Send alerts, in order, from a task of the running loop. Does not wait."""
        for alert in alerts:
            if len(self._queue) >= self._most:
                self._queue.popleft()
                self.outcomes.dropped += 1
            self._queue.append(alert)
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(
                self._work(), name="clusterdb-monitoring: alerts"
            )

    async def aclose(self, within: float = 1.0) -> None:
        """Send what waits, for at most ``within`` seconds. Idempotent."""
        task, self._task = self._task, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        await asyncio.wait([task], timeout=within)
        task.cancel()
        await asyncio.wait([task], timeout=within)
        self.outcomes.dropped += len(self._queue)
        self._queue.clear()

    def forked(self) -> None:
        """In the child of a fork: the parent sends what it has to send."""
        self._task, self._busy = None, False
        self._queue.clear()

    async def _work(self) -> None:
        while self._queue:
            alert = self._queue.popleft()
            limit = asyncio.timeout(self._timeout)
            try:
                async with limit:
                    await self._call(alert)
            except Exception as error:  # noqa: BLE001 - a sink may raise anything
                self._note(error, timed_out=limit.expired())
            else:
                self.outcomes.sent += 1

    async def _call(self, alert: Alert) -> None:
        if self._is_async:
            await _awaited(self._sink(alert))
            return
        if self._busy:
            raise TimeoutError("it still runs with an alert from before")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()

        def run() -> None:
            try:
                result, error = self._sink(alert), None
            except Exception as raised:  # noqa: BLE001 - handed over to who waits
                result, error = None, raised
            self._busy = False
            _hand_over(loop, done, result, error)

        self._busy = True
        threading.Thread(target=run, name="clusterdb-alert", daemon=True).start()
        await _awaited(await done)

    def _note(self, error: Exception, *, timed_out: bool) -> None:
        kind = "timed_out" if timed_out else "failed"
        setattr(self.outcomes, kind, getattr(self.outcomes, kind) + 1)
        if kind not in self._said:
            self._said.add(kind)
            what = f"ran past {self._timeout:g} s" if timed_out else f"failed: {error}"
            _LOG.warning("alert sink %s %s; this is logged once, and counted", self.name, what)


async def _awaited(result: Awaitable[None] | None) -> None:
    if inspect.isawaitable(result):
        await result


def _hand_over(
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Future[Any],
    result: object,
    error: Exception | None,
) -> None:
    """From the sink's thread to the loop, unless that has ended meanwhile."""

    def settle() -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # it was closed: nobody waits any more
        return


def deliver(sinks: Iterable[Sink]) -> list[Delivery]:
    """A delivery for each sink. Raises ValueError for what can't be called."""
    made = []
    for sink in sinks:
        if not callable(sink):
            raise ValueError(f"sinks: a sink is a function of one alert, got {sink!r}")
        made.append(Delivery(sink))
    return made
