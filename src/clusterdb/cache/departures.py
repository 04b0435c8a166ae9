"""Entries that leave by themselves, evicted or expired, told as events after the call of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .events import EntryEvicted, EntryExpired
from .table import Removal
from .types import RemovalCause

__all__ = ["Departures"]


class Departures:
    """Tells of removals by ``publish``."""

    def __init__(self, publish: Callable[..., None]) -> None:
        self._publish = publish
        self._telling = 0
        self._untold: list[tuple[str, Removal]] = []

    def removed(self, region: str, removals: Sequence[Removal]) -> None:
        """Entries left a region."""
        self._untold += [(region, removal) for removal in removals]
        if not self._telling:
            self._tell()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """A call that publishes what it did: what left because of it is told after that."""
        self._telling += 1
        try:
            yield
        finally:
            self._telling -= 1
            if self._untold and not self._telling:
                self._tell()

    def _tell(self) -> None:
        untold, self._untold = self._untold, []
        for region, (key, version, cause) in untold:
            kind = EntryExpired if cause is RemovalCause.EXPIRED else EntryEvicted
            self._publish(kind, region=region, key=key, version=version)
