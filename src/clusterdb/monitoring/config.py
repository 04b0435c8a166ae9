"""Settings of monitoring: which metrics are shown and when to raise an alert.

A leaf: it knows no cache. A wrong value raises `ValueError`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

__all__ = ["AlertConfig", "MetricsConfig", "check_webhook"]

_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When to raise an alert, region by region; None is never.

    `max_memory_usage`: share of the memory limit in use, above 0 and at most 1.
    `max_eviction_rate`: evictions a second. `max_load_failures`: share of the loads that failed.
    `min_hit_ratio`: hits over reads. These two count where there were 100 or more in an interval.
    `hold`: for how many seconds a limit has to be passed before an alert fires; `recovery`: for how
    many it has to be kept again before that is over. `webhook`: the URL that each turn is sent to,
    as JSON; it is kept out of messages, as it may be a secret.
    """

    max_memory_usage: Annotated[float, Meta(gt=0, le=1)] | None = None
    max_eviction_rate: Annotated[float, Meta(ge=0)] | None = None
    max_load_failures: Annotated[float, Meta(ge=0, lt=1)] | None = None
    min_hit_ratio: Annotated[float, Meta(gt=0, le=1)] | None = None
    hold: Annotated[float, Meta(ge=0)] = 0.0
    recovery: Annotated[float, Meta(ge=0)] = 0.0
    webhook: Annotated[str, Meta(extra={"secret": True})] | None = None

    def __post_init__(self) -> None:
        """Check the settings, also those given in code."""
        _check_number("max_memory_usage", self.max_memory_usage, above=0, most=1)
        _check_number("max_eviction_rate", self.max_eviction_rate, least=0)
        _check_number("max_load_failures", self.max_load_failures, least=0, most=1)
        _check_number("min_hit_ratio", self.min_hit_ratio, above=0, most=1)
        for field in ("hold", "recovery"):
            _check_number(field, getattr(self, field), least=0)
            if getattr(self, field) is None:
                raise ValueError(f"{field}: expected seconds, 0 or more, got None")
        if self.webhook is not None:
            check_webhook(self.webhook)

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.webhook is not None:
            given["webhook"] = "***"
        inner = ", ".join([f"{name}={value!r}" for name, value in given.items()])
        return f"AlertConfig({inner})"


class MetricsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which metrics are shown, by name (none named: all), and the alerts. Regions beyond
    `max_regions` are added up as ``other``.
    """

    metrics: tuple[str, ...] = ()
    alerts: AlertConfig | None = None
    max_regions: Annotated[int, Meta(ge=1, le=10_000)] = 100

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
        most: Any = self.max_regions
        if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= 10_000:
            raise ValueError(f"max_regions: expected a number from 1 to 10000, got {most!r}")


def check_webhook(url: Any) -> None:
    """Raise ValueError for what is no web address; the message does not repeat it."""
    problem = "webhook: expected http(s)://host[:port]/path; it is not shown, as it may be a secret"
    if not isinstance(url, str) or any(ord(char) <= 32 or ord(char) > 126 for char in url):
        raise ValueError(problem)
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise ValueError(problem)


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
