"""What this package measures of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from .alerts import Watch
from .metrics import Described, Metric
from .sinks import Delivery

__all__ = ["OWN_METRICS", "SOURCE_FAILURES", "alert_samples"]

SOURCE_FAILURES: Final = Described(
    "cache_monitor_failures", "counter", (), "Times that a source gave no figures to the monitor"
)
_FIRING: Final = Described(
    "cache_alert_firing", "gauge", ("alert", "cache", "region"), "1 while the alert fires"
)
_FIRED: Final = Described("cache_alerts", "counter", ("alert", "cache"), "Times an alert fired")
_DELIVERIES: Final = Described(
    "cache_alert_deliveries",
    "counter",
    ("sink", "outcome", "cache"),
    "Alerts given to a sink, by what became of them: sent, failed, timed_out, dropped",
)

OWN_METRICS: Final = (SOURCE_FAILURES, _FIRING, _FIRED, _DELIVERIES)
"""All of them."""


def alert_samples(
    watch: Watch, deliveries: Iterable[Delivery], now: float, cache: str
) -> list[Metric]:
    """What there is to show of the alerts of one watch: those that fire, how often each fired, and
    what became of what was sent.
    """
    found = []
    for alert in watch.firing(now):
        labels = alert.labels.get("cache", cache), alert.labels.get("region", "")
        found.append(_FIRING.sample(1.0, alert.name, *labels))
    found += [_FIRED.sample(count, name, cache) for name, count in watch.fired.items()]
    for delivery in deliveries if watch.rules else ():
        for outcome, count in msgspec.structs.asdict(delivery.outcomes).items():
            found.append(_DELIVERIES.sample(count, delivery.name, outcome, cache))
    return found
