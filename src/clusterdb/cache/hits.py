"""The hit path of one region: from a key to its value, where that takes no waiting.

It is what the faces try first. ``table`` is set while hits may be answered in process as they are
stored: not before the region is configured, not after the cache was closed, and not for a region
whose values must be copied or checked on their way out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .table import Table
from .types import MISSING

__all__ = ["Getter", "Hits"]


class Hits:
    """Hits of one region."""

    __slots__ = ("_now", "table")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.table: Table | None = None

    def get(self, key: Any, type: object = None, options: object = None) -> object:
        """The live value under ``key`` as it is stored, else ``MISSING``.

        A call with a type or options, or with a key that is no str, is the slow path's.
        """
        table = self.table
        if table is None or options is not None or type is not None:
            return MISSING
        try:
            return table.get(key, self._now())
        except TypeError:  # a key that is no str
            return MISSING


class Getter:
    """``get`` of a sync face: a hit in one call, anything else by ``slow``.

    The same steps as :meth:`Hits.get`, once more, as each call in between costs a sixth of a hit.
    """

    __slots__ = ("_hits", "_now", "_slow")

    def __init__(
        self, hits: Hits, now: Callable[[], float], slow: Callable[[Any, Any, Any, Any], object]
    ) -> None:
        self._hits = hits
        self._now = now
        self._slow = slow

    def get(
        self, key: Any, default: object = None, type: object = None, options: object = None
    ) -> object:
        """The live value under ``key``, else what the slow path gives."""
        table = self._hits.table
        if table is not None and options is None and type is None:
            try:
                value = table.get(key, self._now())
            except TypeError:
                value = MISSING
            if value is not MISSING:
                return value
        return self._slow(key, default, type, options)
