"""Monitoring for ClusterDB's components; a leaf that knows none of them."""

from .config import AlertConfig, MetricsConfig
from .health import Health, HealthCheck, HealthStatus
from .metrics import Metric

__all__ = ["AlertConfig", "Health", "HealthCheck", "HealthStatus", "Metric", "MetricsConfig"]
