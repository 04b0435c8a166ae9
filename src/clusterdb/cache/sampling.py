"""What is looked at by itself: a sample each interval, the rates that come of two, the alerts.

A timer of the loop, no task: between two samples nothing runs, and a cache that nobody closes keeps
nothing alive. One sample is one :meth:`Backend.describe`. A sample that fails is counted, logged
the first time, and followed by the next one.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from clusterdb.monitoring import Alert, AlertConfig, Metric, MetricsConfig, Watch, Webhook
from clusterdb.monitoring.alerts import PastAlert, rules_of
from clusterdb.monitoring.catalogue import alert_samples
from clusterdb.monitoring.sinks import Delivery, Sink, deliver, log_alert
from clusterdb.monitoring.timings import Timings

from .config import CacheStatistics, MonitoringConfig
from .events import AlertTurned
from .measures import LATENCY, LOAD_LATENCY, STORAGE_LATENCY
from .protocols import Backend, BackendInfo
from .rates import RateHistory
from .stats import CacheStats, RegionRates
from .timed import TimedBackend

__all__ = ["Sampling"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_OFF: Final = CacheStatistics(enabled=False)

Look = Callable[[], Awaitable[tuple[CacheStats, Sequence[Metric]]]]
"""Takes a sample: the statistics, and all metrics."""


class Sampling:
    """The samples of one cache. ``now`` is its clock; ``tell`` publishes an event, if anybody
    listens, made of a class and its fields.
    """

    def __init__(self, now: Callable[[], float], tell: Callable[..., None]) -> None:
        self._now = now
        self._tell = tell
        self._monitoring = MonitoringConfig()
        self._config = MetricsConfig()
        self._watch = Watch(())
        self._deliveries: list[Delivery] = []
        self._retired: list[Delivery] = []
        self._history: RateHistory | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.failures = 0
        self.latest: BackendInfo | None = None
        """What the backend said when it last said something."""
        self.timed: TimedBackend | None = None
        self.look: Look | None = None
        """Takes a sample; set by who knows how, before the start."""
        self._calls: Timings | None = None  # while metrics are on
        self._loads: Timings | None = None
        self._stored: Timings | None = None

    def configure(self, monitoring: MonitoringConfig, metrics: MetricsConfig | None) -> None:
        """Take over the settings, now. Alerts that fire are forgotten where theirs have changed."""
        metrics = metrics or MetricsConfig()
        self._calls = (self._calls or Timings(LATENCY)) if monitoring.metrics else None
        self._loads = (self._loads or Timings(LOAD_LATENCY)) if monitoring.metrics else None
        self._stored = (self._stored or Timings(STORAGE_LATENCY)) if monitoring.metrics else None
        if self.timed is not None:
            self.timed.observe_by(self._calls)
        if metrics.alerts != self._config.alerts:
            alerts = metrics.alerts or AlertConfig()
            self._watch = Watch(rules_of(alerts), self._watch)
            self._retired += self._deliveries
            self._deliveries = deliver(self._sinks(alerts)) if self._watch.rules else []
        again = monitoring != self._monitoring
        self._monitoring, self._config = monitoring, metrics
        if self._loop is not None and (again or self._timer is None):
            self._schedule()

    def _sinks(self, alerts: AlertConfig) -> list[Sink]:
        found: list[Sink] = [log_alert, self._publish]
        return found if alerts.webhook is None else [*found, Webhook(alerts.webhook)]

    async def _publish(self, alert: Alert) -> None:
        self._tell(
            AlertTurned,
            alert=alert.name,
            state=alert.state,
            region=alert.labels.get("region", ""),
            value=alert.value,
            limit=alert.limit,
            text=alert.text,
        )

    def timing(self, backend: Backend) -> Backend:
        """``backend``, whose calls are timed from here on if they ever wait."""
        if "immediate" in backend.capabilities:
            return backend
        self.timed = TimedBackend(backend)
        self.timed.observe_by(self._calls)
        return self.timed

    def loaded(self, region: str, seconds: float, outcome: str) -> None:
        """A loader ended."""
        if self._loads is not None:
            self._loads.observe((region, outcome), seconds)

    def stored(
        self, storage: str, operation: str, region: str, outcome: str, seconds: float
    ) -> None:
        """A call of a storage ended."""
        if self._stored is not None:
            self._stored.observe((storage, operation, region, outcome), seconds)

    # -- life

    @property
    def wanted(self) -> bool:
        """Whether anything is to be looked at by itself."""
        wanted = self._monitoring.statistics.enabled or bool(self._watch.rules)
        return wanted and self.look is not None

    def start(self) -> None:
        """Take samples from now on, in the running loop."""
        self._loop, self._task = asyncio.get_running_loop(), None
        if self._history is None:
            self._history = RateHistory(self._now())
            self._watch.begin(self._now())
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = self._loop
        if self.wanted and loop is not None and not loop.is_closed():
            delay = self._monitoring.statistics.interval
            self._timer = loop.call_later(delay, _begin, weakref.ref(self))

    def begin(self) -> None:
        """The timer rang."""
        assert self._loop is not None
        self._timer = None
        self._task = self._loop.create_task(self._work(), name="clusterdb-cache: sample")

    async def _work(self) -> None:
        try:
            await self.take()
        except Exception as error:  # noqa: BLE001 - the next sample may do better
            if not self.failures:
                _LOG.warning("a sample of the statistics failed: %s; logged once", error)
            self.failures += 1
        self._schedule()

    async def take(self) -> None:
        """Take a sample now, and tell of the alerts that turn by it. One round trip a node."""
        assert self.look is not None
        stats, metrics = await self.look()
        now = self._now()
        if self._history is not None:
            self._history.add(stats.regions, now)
        turned = self._watch.look(metrics, now)
        for delivery in self._deliveries:
            delivery.offer(turned)

    async def aclose(self) -> None:
        """Take no more samples, and send what is to be sent, for at most a second."""
        self._monitoring = MonitoringConfig(statistics=_OFF)
        self._watch, self._loop = Watch(()), None
        self._schedule()
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])
        for delivery in [*self._deliveries, *self._retired]:
            await delivery.aclose()

    def forked(self) -> None:
        """In the child of a fork: timers and tasks are the parent's."""
        self._timer = self._task = self._loop = None
        for delivery in self._deliveries:
            delivery.forked()
        self._retired.clear()

    # -- what it found

    @property
    def rates(self) -> dict[str, RegionRates]:
        """The rates of the last interval."""
        enabled = self._monitoring.statistics.enabled
        return self._history.rates if enabled and self._history is not None else {}

    @property
    def alerts(self) -> list[Alert]:
        """The alerts that fire."""
        return self._watch.firing(self._now())

    @property
    def past_alerts(self) -> list[PastAlert]:
        """The alerts that are over, the latest first."""
        return self._watch.past(self._now())

    def samples(self, cache: str) -> list[Metric]:
        """Latencies and alerts."""
        timings = [each for each in (self._calls, self._loads, self._stored) if each is not None]
        found = [sample for each in timings for sample in each.samples(cache)]
        return found + alert_samples(self._watch, self._deliveries, self._now(), cache)

    @property
    def shown(self) -> MetricsConfig | None:
        """Which metrics are shown; ``None`` where none are."""
        return self._config if self._monitoring.metrics else None


def _begin(sampling: weakref.ref[Sampling]) -> None:
    """The timer of a cache that is gone does nothing."""
    found = sampling()
    if found is not None:
        found.begin()
