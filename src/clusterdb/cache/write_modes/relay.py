"""The relay: what changes in storage, by whomever, reaches the caches.

Storage tells all that was committed, in order (its outbox). For each changed row the cached copy
goes, unless it is of that version or a newer one. Where no copy is, the key is invalidated all the
same: a load may be under way that has read the old row.

Our own writes whose copies were stored over their fences need nothing. Another process's relay does
not know that, and looks. A fence is left alone: its writer knows something newer than the change.

The position up to which changes were carried out is kept in the cache itself, so that a cache that
outlives its processes is brought up to date by the next one. Where it is not known, or storage no
longer tells all since then, every copy goes. A lost cache loses the position with the copies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from ..backoff import Backoff
from ..clock import Clock
from ..codec import CodecId, Encoded
from ..errors import CacheError, ChangesLost
from ..protocols import Backend, Drop, Put
from ..rows import RowChanged, Storage
from ..settings import POSITIONS
from ..types import RemovalCause
from .rows import row_version

__all__ = ["Relay"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_BATCH: Final = 1_000
_WAIT: Final = 1.0
_APART: Final = 0.01
"""Seconds between two looks, so that under many commits one look serves several."""

_SAVE_EVERY: Final = 1.0


class Relay:
    """The relay of one storage. ``regions`` are those that are told; ``unknown`` leaves out
    of changes those that are our own, and whose copies were stored over their fences; ``told``
    waits until those are that are under way, so that no copy goes because its change is heard of
    before its commit ends.
    """

    def __init__(
        self,
        name: str,
        storage: Storage,
        backend: Backend,
        clock: Clock,
        regions: Callable[[], Iterable[str]],
        unknown: Callable[[Sequence[RowChanged]], Sequence[RowChanged]],
        told: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._storage = storage
        self._backend = backend
        self._clock = clock
        self._regions = regions
        self._unknown = unknown
        self._told = told
        self.position: str | None = None
        """Up to where storage's changes are carried out."""
        self._saved_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        self.relayed = 0
        self.lag: float | None = None
        """Seconds between the last change and its invalidation; ``None`` before the first."""

    @property
    def _keeps(self) -> bool:
        """Whether the cache outlives this process, or has other users."""
        return bool(self._backend.capabilities & {"multi_process", "persistent"})

    async def start(self) -> None:
        """Find where to begin, and follow from there."""
        if "changes" in self._storage.capabilities:
            await self._begin()
            self._task = asyncio.create_task(self._follow(), name="clusterdb-cache-relay")

    async def aclose(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if self.position is not None and self._keeps:
                try:
                    await self._save()
                except CacheError:
                    return  # the last one that was saved is as good

    # -- positions

    async def _begin(self) -> None:
        if self.position is not None:
            return
        if self._keeps:
            [record] = await self._backend.peek(POSITIONS, [self._name])
            if record is not None and isinstance(record.value, Encoded):
                self.position = record.value.payload.decode()
                return
        await self._restart()

    async def _restart(self) -> None:
        """Every copy may be old: begin at the end of what storage tells."""
        position = await self._storage.position()
        await self._backend.clear(list(self._regions()))
        self.position = position
        if self._keeps:
            await self._save()

    async def _save(self) -> None:
        position = self.position or ""
        self._saved_at = self._clock.now()
        value = Encoded(position.encode(), CodecId.TEXT)
        await self._backend.write(POSITIONS, [Put(self._name, value)])

    # -- following

    async def _follow(self) -> None:
        backoff = Backoff(0.05, 5.0)
        while True:
            try:
                found = await self._step()
                if not found:
                    await self._storage.wait(_WAIT)
                elif found < _BATCH:
                    await asyncio.sleep(_APART)
                backoff = Backoff(0.05, 5.0)
                self.problem = ""
            except ChangesLost as lost:
                _LOG.warning("%s", lost)
                self.position = None
            except CacheError as error:
                self.problem = f"changes of storage are not heard of: {error}"
                await asyncio.sleep(backoff.pause())

    async def _step(self) -> int:
        """Carry out what is new; how many changes it was."""
        if self.position is None:
            await self._restart()
        changes, position = await self._storage.changes(self.position or "", _BATCH)
        if changes:
            await self._carry_out(changes)
            self.lag = max(0.0, self._clock.wall() - changes[-1].time)
        moved = position != self.position
        self.position = position
        due = self._clock.now() - self._saved_at >= _SAVE_EVERY
        if moved and due and self._keeps:
            await self._save()
        return len(changes)

    async def _carry_out(self, changes: Sequence[RowChanged]) -> None:
        await self._told()
        known, latest = set(self._regions()), dict[str, dict[str, int]]()
        for change in self._unknown(changes):
            if change.region in known:
                latest.setdefault(change.region, {})[change.key] = change.version
        for region, versions in latest.items():
            await self._invalidate(region, versions)

    async def _invalidate(self, region: str, versions: Mapping[str, int]) -> None:
        keys = list(versions)
        records = await self._backend.peek(region, keys, stale=True)
        drops = [
            Drop(key, RemovalCause.INVALIDATED)
            for key, record in zip(keys, records, strict=True)
            if record is None or row_version(record) < versions[key]
        ]
        self.relayed += len(drops)
        for outcome in await self._backend.write(region, drops) if drops else ():
            if isinstance(outcome, CacheError):
                raise outcome
