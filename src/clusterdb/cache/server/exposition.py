"""Samples in the text format that Prometheus reads, version 0.0.4."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from clusterdb.monitoring import Metric

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


def exposition(metrics: Iterable[Metric]) -> str:
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
        lines += [f"{full}{_labels(each.labels)} {_number(each.value)}" for each in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join([f'{name}="{_escaped(text)}"' for name, text in labels.items()]) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else f"{value:.17g}"
