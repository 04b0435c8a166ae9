"""Batches: several changes in one flush, in order, each atomic by itself.

``BatchOperation`` is the list of changes as data; ``Batch`` is one that knows its region and can
carry itself out. For all or nothing see :mod:`clusterdb.cache.atomic`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import msgspec
from msgspec import UNSET, UnsetType

from .keys import check_key
from .options import TTL, SetOptions, resolve_set

__all__ = ["Batch", "BatchOperation", "BatchSet"]


class BatchSet(msgspec.Struct, frozen=True):
    """A value to be stored by a batch; without options it is a deletion."""

    key: str
    value: object = None
    options: SetOptions | None = None


class BatchOperation:
    """A list of changes: ``BatchOperation().set("a", 1).set("b", 2, ttl=60).delete("c")``."""

    def __init__(self, changes: Iterable[BatchSet] = ()) -> None:
        self._changes = list(changes)

    def set(
        self,
        key: str,
        value: object,
        *,
        ttl: TTL | UnsetType = UNSET,
        nx: bool | None = None,
        xx: bool | None = None,
        keep_ttl: bool | None = None,
        tags: Iterable[str] | None = None,
        options: SetOptions | None = None,
    ) -> Self:
        """Add a write; arguments as in :meth:`Region.set`, checked now."""
        resolved = resolve_set(options, ttl, nx, xx, keep_ttl, tags)
        self._changes.append(BatchSet(check_key(key), value, resolved))
        return self

    def delete(self, key: str) -> Self:
        """Add a deletion."""
        self._changes.append(BatchSet(check_key(key)))
        return self

    @property
    def changes(self) -> tuple[BatchSet, ...]:
        """What was added, in order."""
        return tuple(self._changes)

    def __len__(self) -> int:
        return len(self._changes)

    def take(self) -> BatchOperation:
        """A batch of what was added, which is then empty."""
        changes, self._changes = self._changes, []
        return BatchOperation(changes)


class Batch(BatchOperation):
    """A batch bound to a region. Leaving ``async with`` without an exception executes it."""

    def __init__(self, execute: Callable[[BatchOperation], Awaitable[list[bool]]]) -> None:
        super().__init__()
        self._execute = execute

    async def execute(self) -> list[bool]:
        """Carry out what was added since the last time; one result a change, in order: whether a
        value was stored, or an entry deleted. One round trip a node.

        Raises :class:`BatchError` when some changes failed; the others were made.
        """
        return await self._execute(self.take())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.execute()
