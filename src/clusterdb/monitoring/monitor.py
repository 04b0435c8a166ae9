"""The Monitor Service: samples of several sources in one place, watched, and shown to Prometheus.

A source is whatever has ``get_metrics()``: a cache, its ``.sync`` door, anything of your own. The
monitor takes the samples each ``interval`` for its rules, and anew for each scrape. A source that
fails is left out, counted and logged once; the others are shown all the same.

A scrape comes in a thread of the HTTP server. Asynchronous sources are then asked in the loop that
the monitor was started or registered in. Where that is the very thread which scrapes, it can't wait
for itself, and gets the latest samples: an ASGI app awaits :meth:`Monitor.sample` instead.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec

from .alerts import Alert, Rule, Watch, rules_of
from .catalogue import SOURCE_FAILURES, alert_samples
from .config import AlertConfig
from .metrics import Labels, Metric, labels_of
from .sinks import Sink, deliver, log_alert

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Monitor", "Source"]

_LOG: Final = logging.getLogger("clusterdb.monitoring")
_WITHIN: Final = 5.0


class Source(Protocol):
    """What can be monitored."""

    def get_metrics(self) -> list[Metric] | Awaitable[list[Metric]]:
        """Its samples."""
        ...


class Monitor:
    """Watches ``sources``, as in ``async with Monitor(cache, alerts=AlertConfig(...)): ...``.

    ``rules`` stand beside those of ``alerts``. ``sinks`` are told of each turn of an alert; by
    default it is logged. ``interval`` is in seconds. Of two sources that name one cache alike the
    second one is shown as ``name#2``, so that none hides the other.
    """

    def __init__(
        self,
        *sources: Source,
        alerts: AlertConfig | None = None,
        rules: Sequence[Rule] = (),
        sinks: Iterable[Sink] = (log_alert,),
        interval: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if not interval > 0:
            raise ValueError(f"interval: expected seconds above 0, got {interval!r}")
        self._sources: list[Source] = []
        for source in sources:
            self.watch(source)
        self._watch = Watch([*([] if alerts is None else rules_of(alerts)), *rules])
        self._deliveries = deliver(sinks)
        self._interval = interval
        self._now = now
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._latest: list[Metric] = []
        self._failures = 0

    # -- life

    def watch(self, source: Source) -> None:
        """Add a source; one that is there already is not taken twice."""
        if not callable(getattr(source, "get_metrics", None)):
            raise ValueError(f"sources: expected something with get_metrics(), got {source!r}")
        if not any(source is known for known in self._sources):
            self._sources.append(source)

    async def start(self) -> None:
        """Take samples each interval, from the running loop. Idempotent."""
        self._loop = asyncio.get_running_loop()
        if self._task is None or self._task.get_loop() is not self._loop:
            await self.look()
            self._task = self._loop.create_task(self._run(), name="clusterdb-monitoring: samples")

    async def aclose(self) -> None:
        """Stop, and send alerts that wait for at most a second. Idempotent."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])
        await asyncio.gather(*[delivery.aclose() for delivery in self._deliveries])

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self.look()

    # -- what it sees

    @property
    def alerts(self) -> list[Alert]:
        """The alerts that fire."""
        return self._watch.firing(self._now())

    async def look(self) -> list[Alert]:
        """Take samples now, and tell the sinks of alerts that turned, which are returned. As many
        round trips as the sources need.
        """
        turned = self._watch.look(await self._gather(), self._now())
        for delivery in self._deliveries:
            delivery.offer(turned)
        return turned

    async def sample(self) -> list[Metric]:
        """The samples of all sources, now, and the monitor's own."""
        return self._with_own(await self._gather())

    async def _gather(self) -> list[Metric]:
        found = [await self._ask(source) for source in list(self._sources)]
        self._latest = _apart(found)
        return self._latest

    async def _ask(self, source: Source) -> list[Metric]:
        try:
            answer = source.get_metrics()
            return await answer if inspect.isawaitable(answer) else answer
        except Exception as error:  # noqa: BLE001 - a source may raise anything
            return self._failed(error)

    def _failed(self, error: Exception) -> list[Metric]:
        if not self._failures:
            _LOG.warning("a monitored source gave no metrics: %s; logged once, and counted", error)
        self._failures += 1
        return []

    def _with_own(self, samples: Iterable[Metric]) -> list[Metric]:
        """``samples`` and those of the monitor itself. A cache may have an alert of the same name
        that fires: it is shown once.
        """
        own = [SOURCE_FAILURES.sample(self._failures)]
        own += alert_samples(self._watch, self._deliveries, self._now(), "")
        every = {(metric.name, labels_of(metric)): metric for metric in [*samples, *own]}
        return list(every.values())

    # -- Prometheus

    def register(self, registry: CollectorRegistry | None = None) -> None:
        """Show the samples in a registry of ``prometheus-client``, by default its global one.

        In a program with an event loop, call it where that runs. Raises ImportError, with what to
        install, where the client is missing, and ValueError where there are asynchronous sources
        and no running loop.
        """
        with suppress(RuntimeError):  # no loop here: sources that answer at once need none
            self._loop = asyncio.get_running_loop()
        if self._loop is None and any(_is_async(source) for source in self._sources):
            raise ValueError(
                "a source is asynchronous, and no event loop runs here: call register() inside "
                "it, or watch the cache's .sync"
            )
        try:
            from prometheus_client import REGISTRY

            from .prometheus import Exporter
        except ImportError as error:
            raise ImportError(
                "metrics for Prometheus need prometheus-client: "
                "pip install 'clusterdb-cache[metrics]'"
            ) from error
        (REGISTRY if registry is None else registry).register(Exporter(self.collect))

    def collect(self) -> list[Metric]:
        """The samples for a scrape, from any thread; the latest ones where none can be had within
        five seconds.
        """
        loop = self._loop
        if loop is None:
            return self._with_own(_apart([self._ask_here(source) for source in self._sources]))
        if loop.is_running() and not _runs_here(loop):
            asked = asyncio.run_coroutine_threadsafe(self.sample(), loop)
            try:
                return asked.result(_WITHIN)
            except Exception as error:  # noqa: BLE001 - a scrape must not fail for it
                asked.cancel()
                self._failed(error)
        return self._with_own(self._latest)

    def _ask_here(self, source: Source) -> list[Metric]:
        """Ask a source that answers at once."""
        try:
            answer = source.get_metrics()
        except Exception as error:  # noqa: BLE001 - a source may raise anything
            return self._failed(error)
        return [] if inspect.isawaitable(answer) else answer


def _runs_here(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _is_async(source: Source) -> bool:
    return inspect.iscoroutinefunction(source.get_metrics)


def _apart(found: Iterable[Sequence[Metric]]) -> list[Metric]:
    """The samples of all sources, each series once: a cache name that an earlier source has is
    given a number.
    """
    taken: set[str] = set()
    series: dict[tuple[str, Labels], Metric] = {}
    for metrics in found:
        names = {metric.labels["cache"] for metric in metrics if "cache" in metric.labels}
        renamed = {name: _free(name, taken) for name in names}
        taken.update(renamed.values())
        for metric in metrics:
            name = metric.labels.get("cache")
            if name is not None and renamed[name] != name:
                labels = metric.labels | {"cache": renamed[name]}
                metric = msgspec.structs.replace(metric, labels=labels)  # noqa: PLW2901 - the same, named otherwise
            series[metric.name, labels_of(metric)] = metric
    return list(series.values())


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}#{number}"
    return found
