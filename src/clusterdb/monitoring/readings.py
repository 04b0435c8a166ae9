"""What rules look at: shares, ratios and rates, read from two moments of samples.

Pure: a :class:`Window` is given what was sampled and when. A counter that has become smaller began
anew, as that of a process which was restarted does, and counts from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

import msgspec

from .metrics import Labels, Metric, labels_of

__all__ = ["Rate", "Ratio", "Reading", "Samples", "Share", "Window", "samples_of"]

Samples: TypeAlias = Mapping[str, Mapping[Labels, float]]
"""Values by name and labels."""

_FEW: Final = 100


def samples_of(metrics: Iterable[Metric]) -> Samples:
    """The values of counters and gauges."""
    found: dict[str, dict[Labels, float]] = {}
    for metric in metrics:
        if metric.kind != "histogram" and math.isfinite(metric.value):
            found.setdefault(metric.name, {})[labels_of(metric)] = metric.value
    return found


class Window(msgspec.Struct, frozen=True):
    """Two moments, ``seconds`` apart."""

    before: Samples
    after: Samples
    seconds: float

    def grown(self, counter: str) -> dict[Labels, float]:
        """By how much each series of a counter has grown. One that was not there before has."""
        old = self.before.get(counter, {})
        return {
            labels: value - old.get(labels, 0.0) if value >= old.get(labels, 0.0) else value
            for labels, value in self.after.get(counter, {}).items()
        }


class Share(msgspec.Struct, frozen=True):
    """How much of gauge ``whole`` the gauge ``part`` is, now. Nothing where there is no whole."""

    part: str
    whole: str

    def read(self, window: Window) -> dict[Labels, float]:
        """The share, by labels."""
        wholes = window.after.get(self.whole, {})
        parts = window.after.get(self.part, {})
        return {
            labels: part / wholes[labels]
            for labels, part in parts.items()
            if wholes.get(labels, 0.0) > 0
        }


class Rate(msgspec.Struct, frozen=True):
    """How often a second the ``counter`` grew by one."""

    counter: str

    def read(self, window: Window) -> dict[Labels, float]:
        """The rate, by labels."""
        if window.seconds <= 0:
            return {}
        grown = window.grown(self.counter)
        return {labels: growth / window.seconds for labels, growth in grown.items()}


class Ratio(msgspec.Struct, frozen=True):
    """The growth of counter ``part`` to that of the counters of ``whole`` together; nothing where
    these grew by fewer than ``least``, of which a ratio says little.
    """

    part: str
    whole: tuple[str, ...]
    least: int = _FEW

    def read(self, window: Window) -> dict[Labels, float]:
        """The ratio, by labels."""
        wholes: dict[Labels, float] = {}
        for counter in self.whole:
            for labels, growth in window.grown(counter).items():
                wholes[labels] = wholes.get(labels, 0.0) + growth
        parts = window.grown(self.part)
        return {
            labels: parts.get(labels, 0.0) / whole
            for labels, whole in wholes.items()
            if whole >= max(self.least, 1)
        }


Reading: TypeAlias = Share | Rate | Ratio
