"""Latency histograms: how long calls took, by what they were.

The bounds are the same for all, so that histograms of processes and regions can be added up. An
observation is a look into a mapping and a search among twelve bounds; who observes often keeps the
histogram, and saves the first half. Threads may observe at the same time; two of one kind in the
same instant may count as one, which a distribution can bear and a lock would cost each call.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Final

from .metrics import Described, Metric

__all__ = ["BOUNDS", "Histogram", "Timings", "quantile"]

BOUNDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5,
)  # fmt: skip
"""Upper bounds in seconds."""


class Histogram:
    """How often a call took how long, and how long all of them together."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One call took so many seconds."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds


class Timings:
    """Histograms of one metric; ``described`` names the labels that an observation gives."""

    def __init__(self, described: Described) -> None:
        self._described = described
        self._histograms: dict[tuple[str, ...], Histogram] = {}

    def histogram(self, labels: tuple[str, ...]) -> Histogram:
        """The histogram of these labels, which lives as long as this does."""
        found = self._histograms.get(labels)
        return self._histograms.setdefault(labels, Histogram()) if found is None else found

    def observe(self, labels: tuple[str, ...], seconds: float) -> None:
        """One call took so many seconds."""
        self.histogram(labels).observe(seconds)

    def samples(self, *first: str) -> list[Metric]:
        """All histograms, with ``first`` as the values of the first labels."""
        what = self._described
        return [
            Metric(
                name=what.name,
                kind="histogram",
                value=float(sum(histogram.counts)),
                labels=dict(zip(what.labels, first + labels, strict=True)),
                help=what.help,
                sum=histogram.sum,
                buckets=_cumulated(histogram.counts),
            )
            for labels, histogram in list(self._histograms.items())
        ]


def quantile(histogram: Metric, share: float) -> float:
    """The value that a ``share`` of the observations is at most, taken as spread evenly within a
    bucket; infinite where it is above the last bound, and not a number without observations.
    """
    wanted, below, low = share * histogram.value, 0, 0.0
    for bound, count in histogram.buckets if histogram.value else ():
        if count >= wanted:
            return low + (bound - low) * (wanted - below) / (count - below)
        below, low = count, bound
    return math.inf if histogram.value else math.nan


def _cumulated(counts: list[int]) -> tuple[tuple[float, int], ...]:
    found, seen = [], 0
    for bound, count in zip(BOUNDS, counts, strict=False):
        seen += count
        found.append((bound, seen))
    return tuple(found)
