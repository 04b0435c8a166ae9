"""The plain write: one value, stored whatever is there, by a caller who waits for the commit.

It is what nearly all writes are, and takes the shortest way to its group: one coroutine and one
future.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import CacheError
from ..protocols import Change, Put, Written
from ..rows import RowChange
from ..types import MISSING
from .committing import Committer
from .items import Item
from .rows import Shape

__all__ = ["PlainWrites", "item_of", "row_of"]


class _Store(Protocol):
    committer: Committer
    """Another one each time that the store is opened."""


class PlainWrites:
    """The plain writes of one region, whose writers wait for the commit."""

    def __init__(
        self, region: str, store: _Store, shape: Shape, *, fenced: bool, strict: bool
    ) -> None:
        self._region = region
        self._store = store
        self._shape = shape
        self._fenced = fenced
        self._strict = strict

    async def write(self, put: Put) -> list[Written | CacheError]:
        """Make one change. Cost: as :meth:`Through.write`."""
        committer = self._store.committer
        item = item_of(self._region, put, self._shape, self._fenced, self._strict)
        if not committer.take(item):
            await committer.submit([item])
        try:
            outcome = await item.done
        except CacheError as error:
            return [error]
        return [Written(outcome.applied, outcome.version)]


def item_of(region: str, change: Change, shape: Shape, fenced: bool, strict: bool) -> Item:
    """A put or a drop on its way to storage."""
    if type(change) is Put:
        copy = None if change.keep_ttl or not fenced else change
        return Item(row_of(region, change, shape), copy, fenced, strict)
    return Item(RowChange(region, change.key, MISSING), None, fenced, strict)


def row_of(region: str, put: Put, shape: Shape) -> RowChange:
    """What a put does to the row. A TTL that is only the region's default is the copy's."""
    return RowChange(
        region,
        put.key,
        shape.stored(put.value),
        None if put.default_ttl else put.ttl,
        put.tags,
        put.when,
        put.keep_ttl,
    )
