"""Metrics as plain samples, for whoever exports them."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Metric"]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One sample. A counter's name has no ``_total``: the exposition adds it."""

    name: str
    kind: Literal["counter", "gauge"]
    value: float
    labels: dict[str, str] = {}
    help: str = ""
