"""What follows from a change that this process makes.

What is near goes before the change is sent, so that no read in between keeps the old value, and
once more when the outcome is known, before the caller goes on: a read that was sent in between may
have been answered before the change was made. Claims on what was changed end; where nobody knows
whether it was, they are given back. Counters, limits, and what a lost primary could forget, take
note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from ...errors import BackendUnavailable, CacheError
from ...near import NearTier
from ...protocols import Change, Drop, Touch, Written
from ...stats import Counters
from ...types import RemovalCause
from .claiming import Claiming
from .limits import Limits
from .names import Names
from .succession import Succession

__all__ = ["Effects"]


class Effects:
    """The effects of one backend's changes."""

    def __init__(
        self,
        names: Names,
        near: NearTier,
        claiming: Claiming,
        limits: Limits,
        succession: Succession,
        counters: Mapping[str, Counters],
        now: Callable[[], float],
    ) -> None:
        self._names = names
        self._near = near
        self._claiming = claiming
        self._limits = limits
        self._succession = succession
        self._counters = counters
        self._now = now

    def beginning(self, region: str, changes: Sequence[Change]) -> _Beginning:
        """Round what sends them: if it fails nobody knows whether they were made. Gives the version
        of the topology, for :meth:`made`.
        """
        return _Beginning(self, region, changes)

    def begin(self, region: str, changes: Sequence[Change]) -> int:
        """They are about to be sent."""
        self._drop(region, [change.key for change in changes])
        return self._succession.version

    def made(
        self,
        region: str,
        changes: Sequence[Change],
        outcomes: Sequence[Written | CacheError],
        since: int,
    ) -> None:
        """These are their outcomes; ``since`` is what :meth:`beginning` gave."""
        self._drop(region, [change.key for change in changes])
        counters, claims = self._counters[region], self._claiming.claims
        limited = region in self._limits
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(outcome, CacheError):
                if isinstance(outcome, BackendUnavailable):
                    self.unknown(region, [change])
                continue
            if limited:
                self._limits.changed(region, change, outcome)
            # By `type(...)`, as `isinstance` of a Struct that it is not takes 0.3 us.
            if type(change) is Drop:
                self._succession.note("entry", [self._names.entry(region, change.key)], since)
                claims.drop(region, change.key, unless_fence=_spares(change))
                if outcome.applied and change.cause is RemovalCause.DELETED:
                    counters.deletes += 1
                elif outcome.applied:
                    counters.invalidations += 1
            elif outcome.applied and type(change) is not Touch:
                claims.drop(region, change.key)
                counters.sets += 1

    @contextmanager
    def fencing(self, region: str, keys: Sequence[str]) -> Iterator[None]:
        """Entries are about to give way to claims of ours."""
        since = self._succession.version
        self._drop(region, keys)
        try:
            yield
        finally:
            self._drop(region, keys)
        self._succession.note("entry", [self._names.entry(region, key) for key in keys], since)
        for key in keys if region in self._limits else ():
            gone = Drop(key, RemovalCause.REPLACED)
            self._limits.changed(region, gone, Written(applied=False))

    def _drop(self, region: str, keys: Iterable[str]) -> None:
        """What is near goes, and what is on its way there."""
        now = self._now()
        for key in keys:
            self._near.drop(region, key, now)

    def unknown(self, region: str, changes: Sequence[Change]) -> None:
        """They may have been made, or not."""
        self._drop(region, [change.key for change in changes])
        for change in changes:
            if not isinstance(change, Touch):
                self._claiming.doubt(region, change.key, unless_fence=_spares(change))
            if region in self._limits:
                self._limits.doubted(region, change)


class _Beginning:
    """A class, as every write enters one: a generator would take three times as long."""

    __slots__ = ("_changes", "_effects", "_region")

    def __init__(self, effects: Effects, region: str, changes: Sequence[Change]) -> None:
        self._effects = effects
        self._region = region
        self._changes = changes

    def __enter__(self) -> int:
        return self._effects.begin(self._region, self._changes)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._effects.unknown(self._region, self._changes)


def _spares(change: Change) -> bool:
    """Whether a change leaves fences alone."""
    return isinstance(change, Drop) and change.cause is RemovalCause.INVALIDATED
