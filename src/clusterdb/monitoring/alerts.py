"""Alerts: which rules are broken, since when, and when that is over.

Pure: time and readings are arguments, and what comes out are the turns. A rule has a *hold*, for
which its limit has to be passed without a break before it fires, and a *recovery*, for which it has
to be kept again before it is over; so a figure that wavers about its limit rings once. Where there
is nothing to read (a series that went, too few calls for a ratio) the limit counts as kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from .config import AlertConfig
from .metrics import Labels, Metric
from .readings import Rate, Ratio, Reading, Samples, Share, Window, samples_of

__all__ = ["Alert", "AlertState", "PastAlert", "Rule", "Watch", "rules_of"]

_REMEMBERED: Final = 20

AlertState: TypeAlias = Literal["firing", "resolved"]


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Fires while ``reading`` is above ``limit``, or below it with ``below``.

    ``hold`` and ``recovery`` are in seconds; ``remedy`` is a sentence for whoever is called.
    """

    name: str
    reading: Reading
    limit: float
    below: bool = False
    hold: float = 0.0
    recovery: float = 0.0
    remedy: str = ""

    def broken_by(self, value: float) -> bool:
        """Whether the limit is passed."""
        return value < self.limit if self.below else value > self.limit


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that turned, for the series with these ``labels``. ``value`` is the latest reading,
    ``None`` where there is none any more; ``lasted`` is for how many seconds it has been firing.
    ``below``: the limit is one that a reading is not to fall below. ``over_in``: the limit is kept
    again, and if it stays so, the alert is over in so many seconds.
    """

    name: str
    state: AlertState
    labels: dict[str, str]
    value: float | None
    limit: float
    lasted: float
    remedy: str = ""
    below: bool = False
    over_in: float | None = None

    @property
    def text(self) -> str:
        """One line for a person."""
        where = ", ".join([f"{name} {value}" for name, value in self.labels.items()])
        value = "no reading" if self.value is None else f"{self.value:.4g}"
        if self.state == "resolved":
            return f"{self.name} is over ({where}): {value}, limit {self.limit:g}"
        remedy = f": {self.remedy}" if self.remedy else ""
        return f"{self.name} ({where}): {value}, limit {self.limit:g}{remedy}"


class PastAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is over, ``ago`` seconds ago."""

    alert: Alert
    ago: float


class _Series:
    """One rule and one set of labels: since when the limit was passed, fires, is kept again."""

    __slots__ = ("broken", "firing", "kept", "value")

    def __init__(self, now: float) -> None:
        self.broken = now
        self.firing: float | None = None
        self.kept: float | None = None
        self.value: float | None = None


class Watch:
    """The rules, and what is known of each series that broke one. ``before`` is a watch that ends
    here: rates go on from its last look.
    """

    def __init__(self, rules: Sequence[Rule], before: Watch | None = None) -> None:
        self.rules = tuple(rules)
        self.fired: dict[str, int] = {rule.name: 0 for rule in rules}
        self._series: dict[tuple[str, Labels], _Series] = {}
        self._past: deque[tuple[float, Alert]] = deque(maxlen=_REMEMBERED)
        self._last: tuple[float, Samples] | None = None if before is None else before._last  # noqa: SLF001 - of its own class

    def begin(self, now: float) -> None:
        """Nothing was counted up to now: the first look reads rates since then."""
        self._last = now, {}

    def look(self, metrics: Iterable[Metric], now: float) -> list[Alert]:
        """What has turned, seen from these samples and those of the look before. The first look
        reads no rates, unless :meth:`begin` says since when.
        """
        samples = samples_of(metrics)
        then, before = self._last or (now, samples)
        self._last = now, samples
        window = Window(before, samples, now - then)
        turned: list[Alert] = []
        for rule in self.rules:
            turned += self.judge(rule, rule.reading.read(window), now)
        return turned

    def judge(self, rule: Rule, readings: dict[Labels, float], now: float) -> list[Alert]:
        """What has turned of one rule."""
        known = [labels for name, labels in self._series if name == rule.name]
        turned = [
            self._judge(rule, labels, readings.get(labels), now)
            for labels in dict.fromkeys([*known, *readings])
        ]
        return [alert for alert in turned if alert is not None]

    def _judge(self, rule: Rule, labels: Labels, value: float | None, now: float) -> Alert | None:
        key = rule.name, labels
        series = self._series.get(key)
        broken = value is not None and rule.broken_by(value)
        if series is None:
            if not broken:
                return None
            series = self._series[key] = _Series(now)
        series.value = value
        if broken:
            series.kept = None
            if series.firing is None and now - series.broken >= rule.hold:
                series.firing = now
                self.fired[rule.name] += 1
                return _alert(rule, labels, series, "firing", now)
            return None
        if series.firing is None:
            del self._series[key]
            return None
        series.kept = now if series.kept is None else series.kept
        if now - series.kept < rule.recovery:
            return None
        del self._series[key]
        over = _alert(rule, labels, series, "resolved", now)
        self._past.appendleft((now, over))
        return over

    def firing(self, now: float) -> list[Alert]:
        """All alerts that fire."""
        rules = {rule.name: rule for rule in self.rules}
        return [
            _alert(rules[name], labels, series, "firing", now)
            for (name, labels), series in self._series.items()
            if series.firing is not None
        ]

    def past(self, now: float) -> list[PastAlert]:
        """The alerts that are over, the last twenty of them, the latest first."""
        return [PastAlert(alert=alert, ago=now - at) for at, alert in self._past]


def _alert(rule: Rule, labels: Labels, series: _Series, state: AlertState, now: float) -> Alert:
    kept = series.kept if state == "firing" else None
    return Alert(
        name=rule.name,
        state=state,
        labels=dict(labels),
        value=series.value,
        limit=rule.limit,
        lasted=now - (now if series.firing is None else series.firing),
        remedy=rule.remedy,
        below=rule.below,
        over_in=None if kept is None else max(0.0, rule.recovery - (now - kept)),
    )


def rules_of(config: AlertConfig) -> list[Rule]:
    """The rules that a configuration asks for."""
    known: list[tuple[str, Reading, float | None, str]] = [
        (
            "max_memory_usage",
            Share("cache_weight", "cache_max_weight"),
            config.max_memory_usage,
            "raise max_memory of the region, or give its entries a shorter TTL",
        ),
        (
            "max_eviction_rate",
            Rate("cache_evictions"),
            config.max_eviction_rate,
            "raise the limits of the region: cache.advise() says what more memory would do",
        ),
        (
            "max_load_failures",
            Ratio("cache_load_failures", ("cache_loads",)),
            config.max_load_failures,
            "the origin fails: look at the errors of its loader",
        ),
        (
            "min_hit_ratio",
            Ratio("cache_hits", ("cache_hits", "cache_misses")),
            config.min_hit_ratio,
            "look at cache.advise(): the region may be too small, or its keys asked for once only",
        ),
    ]
    return [
        Rule(
            name=name,
            reading=reading,
            limit=limit,
            below=name.startswith("min_"),
            hold=config.hold,
            recovery=config.recovery,
            remedy=remedy,
        )
        for name, reading, limit, remedy in known
        if limit is not None
    ]
