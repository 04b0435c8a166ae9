"""Paired rounds: every subject in turn, round after round, in one process.

A machine drifts: it slows down under heat and neighbours. Subjects that are measured one after the
other get different machines; subjects that take turns share the drift, and the ratio of two of them
in the same round is free of it. So a figure here is the median of the rounds, and a comparison is
the median of the ratios round by round. One of our own subjects runs twice under two names: how far
the ratio of the two is from 1 is what this machine can't tell apart (the A/A control).
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

__all__ = ["Summary", "Times", "alternate", "rotation", "spread", "summary", "time_calls", "versus"]

Times = dict[str, list[float]]
"""For each subject the cost it had in each round."""


@dataclass(frozen=True)
class Summary:
    """The median of the rounds and the quartiles around it."""

    median: float
    low: float
    high: float


def summary(samples: Sequence[float]) -> Summary:
    """Summarize the samples of all rounds."""
    if len(samples) < 2:
        return Summary(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, low, high)


def versus(times: Times, subject: str, other: str) -> Summary:
    """How many times as long as ``other`` the ``subject`` takes, compared round by round."""
    return summary([a / b for a, b in zip(times[subject], times[other], strict=True)])


def spread(times: Times, subject: str, again: str) -> float:
    """How far the ratio of one subject to itself strays from 1: the farther of its quartiles."""
    ratio = versus(times, again, subject)
    return max(abs(ratio.low - 1), abs(ratio.high - 1))


def rotation(names: Sequence[str], turn: int) -> list[str]:
    """The order of a round: each subject leads in its turn, and neighbours change sides."""
    start = turn % len(names)
    order = [*names[start:], *names[:start]]
    return order[::-1] if turn % 2 else order


def alternate(
    subjects: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> Times:
    """Measure every subject once a round, after a round that doesn't count.

    The collector of cyclic garbage stays on; what lies around is collected before each round.
    """
    times: Times = {name: [] for name in subjects}
    for turn in range(-1 if warm_up else 0, rounds):
        gc.collect()
        for name in rotation(list(subjects), turn):
            cost = subjects[name]()
            if turn >= 0:
                times[name].append(cost)
    return times


def time_calls(call: Callable[[str], object], requests: Sequence[str]) -> float:
    """Nanoseconds of one ``call(key)`` inside a plain ``for`` loop, the loop included."""
    start = perf_counter_ns()
    for key in requests:
        call(key)
    return (perf_counter_ns() - start) / len(requests)
