"""Settings of monitoring: which metrics are shown and when to raise an alert.

A leaf: it knows no cache. A wrong value raises `ValueError`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

__all__ = ["AlertConfig", "MetricsConfig"]

_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to raise an alert; None is never.

    `max_memory_usage`: share of the memory limit in use, above 0 and at most 1.
    `max_eviction_rate`: evictions a second.
    """

    max_memory_usage: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_eviction_rate: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        """Check the settings, also those given in code."""
        _check_number("max_memory_usage", self.max_memory_usage, above=0, most=1)
        _check_number("max_eviction_rate", self.max_eviction_rate, least=0)


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which metrics are shown, by name (none named: all), and the alerts."""

    metrics: tuple[str, ...] = ()
    alerts: AlertConfig | None = None

    def __post_init__(self) -> None:
        """Check the settings, also those given in code."""
        names: Any = self.metrics
        if not isinstance(names, (list, tuple)):
            raise ValueError(f"metrics: expected a list of names, got {names!r}")
        for name in names:
            if not isinstance(name, str) or _METRIC.fullmatch(name) is None:
                raise ValueError(f"metrics: {name!r} is not a metric name, such as cache_hits")
        msgspec.structs.force_setattr(self, "metrics", tuple(names))
        if self.alerts is not None and not isinstance(self.alerts, AlertConfig):
            raise ValueError(f"alerts: expected AlertConfig(...), got {self.alerts!r}")


def _check_number(
    field: str, value: Any, *, least: float = -math.inf, above: float = -math.inf,
    most: float = math.inf,
) -> None:  # fmt: skip
    """Refuse what is not None and not a finite number within the bounds."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{field}: expected a number, got {value!r}")
    if not (least <= value <= most and above < value < math.inf):
        low = f"above {above:g}" if above > -math.inf else f"{least:g} or more"
        high = f" and at most {most:g}" if most < math.inf else ""
        raise ValueError(f"{field}: must be {low}{high}, got {value!r}")
