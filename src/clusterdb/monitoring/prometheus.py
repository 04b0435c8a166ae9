"""Samples in the formats of Prometheus, by ``prometheus-client``; imported when first asked for.

:class:`Exporter` is a collector for its registries, so that ``start_http_server``, its WSGI and
ASGI apps and its push gateway work as usual. :func:`exposition` makes one page of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .metrics import Metric

__all__ = ["Exporter", "exposition", "families"]


def families(metrics: Iterable[Metric]) -> Iterator[Family]:
    """The samples, grouped by name as the formats want them."""
    grouped: dict[str, list[Metric]] = {}
    for metric in metrics:
        grouped.setdefault(metric.name, []).append(metric)
    for group in grouped.values():
        yield _family(group)


def _family(group: list[Metric]) -> Family:
    first = group[0]
    names = list(dict.fromkeys([name for metric in group for name in metric.labels]))
    values = [[metric.labels.get(name, "") for name in names] for metric in group]
    if first.kind == "histogram":
        histogram = HistogramMetricFamily(first.name, first.help, labels=names)
        for metric, labels in zip(group, values, strict=True):
            buckets = [(repr(bound), float(count)) for bound, count in metric.buckets]
            histogram.add_metric(labels, [*buckets, ("+Inf", metric.value)], metric.sum)
        return histogram
    kind = CounterMetricFamily if first.kind == "counter" else GaugeMetricFamily
    family = kind(first.name, first.help, labels=names)
    for metric, labels in zip(group, values, strict=True):
        family.add_metric(labels, metric.value)
    return family


class Exporter(Collector):
    """A collector of what ``samples`` returns, called at each scrape."""

    def __init__(self, samples: Callable[[], Iterable[Metric]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Family]:
        """The families of one scrape."""
        yield from families(self._samples())

    def describe(self) -> Iterator[Family]:
        """Nothing: registering takes no samples."""
        return iter(())


def exposition(metrics: Iterable[Metric], accept: str = "") -> tuple[bytes, str]:
    """One page in the format that an ``Accept`` header asks for, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exporter(lambda: metrics))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
