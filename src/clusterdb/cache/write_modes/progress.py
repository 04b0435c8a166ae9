"""How batches fare: how large the next one is, what keeps rows from being written, and which.

Pure. A batch that fails is followed by smaller ones, until the row that makes it fail is alone; one
that succeeds by larger ones.
"""

from __future__ import annotations

from collections.abc import Collection

from ..errors import CacheError

__all__ = ["Progress"]


class Progress:
    """The progress of one queue, whose batches have at most ``most`` rows."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stuck: set[tuple[str, str]] = set()
        self.size = most
        """Rows of the next batch, at most."""
        self.error: CacheError | None = None
        """What keeps a row from being written, as long as there is such a row."""
        self.just_failed: frozenset[tuple[str, str]] = frozenset()
        """What the last batch did not write."""

    def succeeded(self, places: Collection[tuple[str, str]]) -> None:
        """A batch is written."""
        self.size = min(2 * self.size, self._most)
        self.just_failed = frozenset()
        self._stuck.difference_update(places)
        if not self._stuck:
            self.error = None

    def failed(self, places: Collection[tuple[str, str]], rows: int, error: CacheError) -> None:
        """Of a batch of so many rows, ``places`` were not written."""
        self.size = max(1, rows // 2)
        self.just_failed = frozenset(places)
        self._stuck.update(places)
        self.error = error
