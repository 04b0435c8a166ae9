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

__all__ = ["Getter", "Hits", "Typed"]


class Typed:
    """A decoded value that is kept near, with the type it was asked for by."""

    __slots__ = ("type", "value")

    def __init__(self, type: object, value: object) -> None:
        self.type = type
        self.value = value


class Hits:
    """Hits of one region. ``near``: the table is a near tier's, whose values may be
    :class:`Typed`.
    """

    __slots__ = ("_now", "near", "table")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.near = False
        self.table: Table | None = None

    def get(self, key: Any, type: object = None, options: object = None) -> object:
        """The live value under ``key`` as it is stored, else ``MISSING``.

        A call with options, with a type that nobody decoded it as, or with a key that is no str,
        is the slow path's.
        """
        table = self.table
        if table is None or options is not None or (type is not None and not self.near):
            return MISSING
        try:
            value = table.get(key, self._now())
        except TypeError:  # a key that is no str
            return MISSING
        if isinstance(value, Typed):
            return value.value if value.type is type or value.type == type else MISSING
        return value if type is None else MISSING


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
            if value is not MISSING and not isinstance(value, Typed):
                return value
        return self._slow(key, default, type, options)
