"""Samples in the text format that Prometheus reads, version 0.0.4, without any library.

:mod:`.prometheus` has the same by ``prometheus-client``, in whatever format a scrape asks for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from .metrics import Metric

__all__ = ["CONTENT_TYPE", "text_format"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def text_format(metrics: Iterable[Metric]) -> str:
    """The samples, those of one name together, as the format wants it."""
    families: dict[str, list[Metric]] = {}
    for metric in metrics:
        families.setdefault(metric.name, []).append(metric)
    lines: list[str] = []
    for name, samples in families.items():
        first = samples[0]
        full = f"{name}_total" if first.kind == "counter" else name
        text = first.help.replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {full} {text}", f"# TYPE {full} {first.kind}"]
        for each in samples:
            lines += _histogram(each) if each.kind == "histogram" else [_line(full, each)]
    return "\n".join(lines) + "\n"


def _histogram(metric: Metric) -> Iterator[str]:
    for bound, count in (*metric.buckets, (math.inf, metric.value)):
        labels = metric.labels | {"le": _number(bound)}
        yield f"{metric.name}_bucket{_labels(labels)} {_number(count)}"
    yield f"{metric.name}_sum{_labels(metric.labels)} {_number(metric.sum)}"
    yield f"{metric.name}_count{_labels(metric.labels)} {_number(metric.value)}"


def _line(name: str, metric: Metric) -> str:
    return f"{name}{_labels(metric.labels)} {_number(metric.value)}"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(text)}"' for name, text in labels.items()]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return repr(int(value)) if value == int(value) and abs(value) < 1e17 else repr(float(value))
