"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["count", "duration", "percent", "percentile", "ratio"]


def duration(seconds: float) -> str:
    """Three digits and a unit: ``1.42 ms``."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= factor:
            return f"{_three_digits(seconds / factor)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:,.{decimals}f}"


def count(number: int) -> str:
    """With separators: ``200,000``."""
    return f"{number:,}"


def percent(share: float) -> str:
    """With one decimal: ``74.7%``."""
    return f"{100 * share:.1f}%"


def ratio(slow: float, fast: float) -> str:
    """How many times faster: ``1,240x``."""
    if fast <= 0:
        return "-"
    times = slow / fast
    return f"{times:,.0f}x" if times >= 10 else f"{times:.1f}x"


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed; 0 where there are none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
