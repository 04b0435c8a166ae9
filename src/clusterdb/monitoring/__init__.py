"""Monitoring for ClusterDB's components; a leaf that knows none of them.

Samples (:class:`Metric`), alert rules over them (:class:`Rule`), sinks that are told, and a
:class:`Monitor` of it all, which Prometheus can scrape.
"""

from .alerts import Alert, Rule, Watch
from .config import AlertConfig, MetricsConfig
from .health import Health, HealthCheck, HealthStatus
from .metrics import Metric
from .monitor import Monitor, Source
from .readings import Rate, Ratio, Share
from .sinks import Sink, log_alert
from .webhook import Webhook

__all__ = [
    "Alert",
    "AlertConfig",
    "Health",
    "HealthCheck",
    "HealthStatus",
    "Metric",
    "MetricsConfig",
    "Monitor",
    "Rate",
    "Ratio",
    "Rule",
    "Share",
    "Sink",
    "Source",
    "Watch",
    "Webhook",
    "log_alert",
]
