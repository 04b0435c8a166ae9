"""What happened in a scenario, and the checkers that judge it.

The origin has one growing counter of versions. A writer *bumps* the keys it is about to change,
then calls the cache; so whatever was read from the origin before has a lower version. Everything
that happens is recorded with the number of its start and of its end. The checkers are those of
the invariants: each returns sentences, and none when all is well.

* I1, I6, I8 (:func:`stale_answers`): what starts after a write has returned sees that write's
  version or a later one, by whatever way it came, also when the answer is an error of the origin.
* I7 (:func:`needless_calls`): between two writes a key is loaded once, and once more for each load
  that failed or was cancelled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, NamedTuple

__all__ = [
    "History",
    "Origin",
    "OriginDown",
    "Span",
    "Value",
    "needless_calls",
    "stale_answers",
]

Kind = Literal["read", "write", "call"]


class Value(NamedTuple):
    """What the origin has under a key."""

    key: str
    version: int


class OriginDown(Exception):
    """The origin failed when it was at ``version``."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the origin failed at version {version}")
        self.version = version


class Origin:
    """The truth: a version for each key."""

    def __init__(self) -> None:
        self._next = count(1)
        self._versions: dict[str, int] = defaultdict(int)

    def read(self, key: str) -> Value:
        """The present value."""
        return Value(key, self._versions[key])

    def bump(self, *keys: str) -> int:
        """Change ``keys``; their new version."""
        version = next(self._next)
        for key in keys:
            self._versions[key] = version
        return version


@dataclass(slots=True)
class Span:
    """One thing that happened; ``version`` is ``None`` where there is nothing to compare.

    ``claimed``: when a loader's call got the right to load, before it started.
    """

    kind: Kind
    what: str
    keys: tuple[str, ...]
    start: int
    end: int = -1
    version: int | None = None
    outcome: str = "running"
    claimed: int = -1


@dataclass(slots=True)
class History:
    """All spans of a scenario, in the order of their starts."""

    spans: list[Span] = field(default_factory=list)
    _ticks: Iterator[int] = field(default_factory=count)

    def tick(self) -> int:
        """The next moment."""
        return next(self._ticks)

    def begin(self, kind: Kind, what: str, *keys: str) -> Span:
        """Something starts."""
        span = Span(kind, what, keys, self.tick())
        self.spans.append(span)
        return span

    def end(self, span: Span, outcome: str, version: int | None = None) -> None:
        """It ended."""
        span.end, span.outcome = self.tick(), outcome
        if version is not None:
            span.version = version

    def of(self, kind: Kind, key: str | None = None) -> list[Span]:
        """The spans of a kind, of one key."""
        return [
            span for span in self.spans if span.kind == kind and (key is None or key in span.keys)
        ]


def stale_answers(history: History) -> Iterator[str]:
    """I1, I6, I8: a read that saw less than a write that had returned before it started."""
    for read in history.of("read"):
        if read.version is None or read.outcome == "cancelled":
            continue
        for write in history.of("write", read.keys[0]):
            before = write.outcome == "ok" and write.end < read.start
            if before and write.version is not None and read.version < write.version:
                yield (
                    f"stale: {read.what} of {read.keys[0]} at {read.start} saw version "
                    f"{read.version}, after {write.what} of {write.version} at {write.end}"
                )


def needless_calls(history: History, calls_a_load: int = 1) -> Iterator[str]:
    """I7: a quiet time, without a write in progress, in which a key was loaded too often."""
    for key in sorted({key for span in history.of("call") for key in span.keys}):
        calls, reads = history.of("call", key), history.of("read", key)
        for start, end in _quiet(history.of("write", key)):
            inside = [call for call in calls if start < call.claimed < end]
            lost = _lost(inside, [read for read in reads if start < read.end])
            if len(inside) > calls_a_load * (1 + lost):
                yield (
                    f"needless: {len(inside)} loads of {key}, {lost} of them lost, "
                    f"between {start} and {end}"
                )


def _lost(calls: Iterable[Span], reads: Iterable[Span]) -> int:
    """How many loads failed, or may have been cancelled, if only just before they stored."""
    outcomes = [call.outcome for call in calls]
    cancelled = outcomes.count("cancelled")
    failed = len(outcomes) - outcomes.count("ok") - cancelled
    return failed + max(cancelled, sum([read.outcome == "cancelled" for read in reads]))


def _quiet(writes: Iterable[Span]) -> Iterator[tuple[float, float]]:
    """The times in which none of ``writes`` that ends claims is in progress."""
    since = -1.0
    for write in sorted(writes, key=lambda span: span.start):
        if write.what != "touch":
            yield since, float(write.start)
            since = max(since, float(write.end) if write.end >= 0 else float("inf"))
    yield since, float("inf")
