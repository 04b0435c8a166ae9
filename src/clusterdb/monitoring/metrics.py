"""Metrics as plain samples, for whoever exports them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

import msgspec

__all__ = ["OTHER", "Described", "Labels", "Metric", "fold", "labels_of", "selected"]

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Labels as a key of a mapping: pairs in the order of their names."""

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

OTHER: Final = "other"
"""What regions beyond the limit are called together."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. A counter's name has no ``_total``: the exposition adds it.

    A histogram's ``value`` is how many were observed, ``sum`` their sum, and ``buckets`` are upper
    bounds, each with how many were at most that; those above the last one are in ``value`` only.
    """

    name: str
    kind: Kind
    value: float
    labels: dict[str, str] = {}
    help: str = ""
    sum: float = 0.0
    buckets: tuple[tuple[float, int], ...] = ()


class Described(msgspec.Struct, frozen=True):
    """What can be measured: a name, its kind, the names of its labels, and what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    def sample(self, value: float, *labels: str) -> Metric:
        """A sample of it, with a value for each label."""
        given = dict(zip(self.labels, labels, strict=True))
        return Metric(name=self.name, kind=self.kind, value=value, labels=given, help=self.help)

    @property
    def exposed(self) -> tuple[str, ...]:
        """The names of its series on the wire."""
        if self.kind == "histogram":
            return tuple([f"{self.name}_{part}" for part in ("bucket", "count", "sum")])
        return (f"{self.name}_total",) if self.kind == "counter" else (self.name,)


def labels_of(metric: Metric) -> Labels:
    """The labels of a sample as a key."""
    return tuple(sorted(metric.labels.items()))


def selected(metrics: Iterable[Metric], names: Iterable[str]) -> list[Metric]:
    """Those that are named, by the name they have here or on the wire; none named: all."""
    wanted = {name.removesuffix("_total") for name in names}
    return [metric for metric in metrics if not wanted or metric.name in wanted]


def fold(metrics: Iterable[Metric], limit: int, label: str = "region") -> list[Metric]:
    """The samples with at most ``limit`` values of ``label``, the first ones; all further ones are
    added up as those of :data:`OTHER`. So a program that makes regions without end does not fill
    the database of a metrics system.
    """
    kept: dict[str, None] = {}
    found: dict[tuple[str, Labels], Metric] = {}
    for metric in metrics:
        value = metric.labels.get(label)
        if value is not None and value not in kept:
            if len(kept) < limit:
                kept[value] = None
            else:
                metric = msgspec.structs.replace(metric, labels=metric.labels | {label: OTHER})  # noqa: PLW2901 - the same sample, named otherwise
        key = metric.name, labels_of(metric)
        found[key] = _added(found[key], metric) if key in found else metric
    return list(found.values())


def _added(one: Metric, other: Metric) -> Metric:
    both = zip(one.buckets, other.buckets, strict=True)
    return msgspec.structs.replace(
        one,
        value=one.value + other.value,
        sum=one.sum + other.sum,
        buckets=tuple([(bound, first + second) for (bound, first), (_, second) in both]),
    )
