"""What this package measures of itself."""

from __future__ import annotations

from typing import Final

from .metrics import Described

__all__ = ["ALERTS", "ALERTS_FIRING", "ALERT_DELIVERIES", "OWN_METRICS", "SOURCE_FAILURES"]

SOURCE_FAILURES: Final = Described(
    "cache_monitor_failures", "counter", (), "Times that a source gave no figures to the monitor"
)
ALERTS_FIRING: Final = Described(
    "cache_alert_firing", "gauge", ("alert", "cache", "region"), "1 while the alert fires"
)
ALERTS: Final = Described("cache_alerts", "counter", ("alert", "cache"), "Times an alert fired")
ALERT_DELIVERIES: Final = Described(
    "cache_alert_deliveries",
    "counter",
    ("sink", "outcome", "cache"),
    "Alerts given to a sink, by what became of them: sent, failed, timed_out, dropped",
)

OWN_METRICS: Final = (SOURCE_FAILURES, ALERTS_FIRING, ALERTS, ALERT_DELIVERIES)
"""All of them."""
