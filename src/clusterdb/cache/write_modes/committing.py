"""Group commit: writes through the cache that come together share a transaction.

While one group is committed the next is collected, as a database does with its log ("group commit",
DeWitt et al., SIGMOD 1984). Each caller keeps what it was promised: its own outcome, after its own
row was committed and the cache has heard of it.

For each group:

1. the rows are written, whose locks order the writers of all processes;
2. *before the commit* every key is **fenced** in the cache (:meth:`Backend.fence`): the old copy
   goes, no load that may have read the old row can be stored any more, and readers go to storage;
3. the transaction is committed;
4. each new value is stored over our own fence, and nowhere else: if another has fenced the key
   since, its row is newer.

So no old value can be cached after the commit, whoever dies when: a fence that nobody fills lapses
into absence. It stands longer than a commit may take (:attr:`Storage.deadline`).

Where the cache can't be fenced, a ``strict`` write fails and storage is untouched. Another goes on:
its keys are invalidated after the commit, and by the relay of the outbox if that fails too. The
relay looks at all but what is known to be stored over its own fence.

One key is in one group at a time, in the order in which it was written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ..errors import CacheClosed, CacheError, OutcomeUnknown
from ..failpoints import FAILPOINTS, hit
from ..protocols import Backend, Drop
from ..rows import RowChanged, RowWritten, Storage
from ..types import RemovalCause
from .fencing import Fences
from .items import Item

__all__ = ["Committer"]


_GROUP: Final = 128
"""Rows of a transaction."""

_WAITING: Final = 10_000
"""Rows that wait for a transaction; who comes beyond waits for a place."""

_CONFIRMED: Final = 100_000
"""Versions of own writes that are remembered until the relay has heard of them."""

_GROUPS: Final = 2
"""Transactions at a time: one may be on its way to the disk while the next is written."""

_MARGIN: Final = 5.0
"""Seconds that a fence stands longer than a commit may take."""


class Committer:
    """The write-throughs of one storage in one event loop."""

    def __init__(self, name: str, storage: Storage, backend: Backend) -> None:
        self._name = name
        self._storage = storage
        self._backend = backend
        self._waiting: deque[Item] = deque()
        self._busy: set[tuple[str, str]] = set()
        self._places: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._groups = 0
        self._planned = False
        self._closing = False
        self._tells = "changes" in storage.capabilities
        self._confirmed: dict[tuple[str, str], int] = {}
        self.commits = 0
        self.rows = 0

    @property
    def waiting(self) -> int:
        """Rows that wait for a transaction."""
        return len(self._waiting)

    def take(self, item: Item) -> bool:
        """Queue a change as :meth:`submit` does, where nobody has to wait for a place."""
        if self._closing or len(self._waiting) >= _WAITING:
            return False
        self._waiting.append(item)
        self._plan()
        return True

    async def submit(self, items: Sequence[Item]) -> None:
        """Queue changes; their outcomes are in ``done``. Waits while too many wait already. Raises
        :class:`CacheClosed`.
        """
        while len(self._waiting) >= _WAITING and not self._closing:
            place = asyncio.get_running_loop().create_future()
            self._places.append(place)
            await place
        if self._closing:
            raise CacheClosed(self._name)
        self._waiting.extend(items)
        self._plan()

    async def make(self, items: Sequence[Item]) -> list[RowWritten | CacheError]:
        """Make changes; for each its outcome. A caller that is cancelled harms nobody: what was
        not sent yet is not made. Cost: one transaction, shared, and two round trips to the cache.
        """
        await self.submit(items)
        outcomes: list[RowWritten | CacheError] = []
        try:
            for item in items:
                try:
                    outcomes.append(await item.done)
                except CacheError as error:
                    outcomes.append(error)
        finally:
            for item in items[len(outcomes) :]:
                item.done.cancel()
        return outcomes

    async def aclose(self) -> None:
        """Commit what waits, and end."""
        self._closing = True
        while self._waiting or self._tasks:
            self._plan()
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(0)
        for place in self._places:
            if not place.done():
                place.set_result(None)
        for late in self._late:
            late.cancel()
        if self._late:
            await asyncio.wait(self._late)

    async def told(self) -> None:
        """Wait until the cache was told of what is being committed now."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def fences(self) -> Fences:
        """Fences for a transaction."""
        return Fences(self._backend, self._storage.deadline + _MARGIN, self._confirm)

    def _confirm(self, place: tuple[str, str], version: int) -> None:
        """The copy of a row at ``version`` is right, or there is none."""
        if self._tells:
            confirmed = self._confirmed
            confirmed.pop(place, None)
            confirmed[place] = version
            if len(confirmed) > _CONFIRMED:  # of old ones the relay is not told, or not yet
                del confirmed[next(iter(confirmed))]

    def unconfirmed(self, changes: Sequence[RowChanged], origin: str) -> list[RowChanged]:
        """Those changes that a relay has to look at: whose copies are not known to be right.
        ``origin`` is what ours have.
        """
        confirmed = self._confirmed
        found: list[RowChanged] = []
        for change in changes:
            place = (change.region, change.key)
            version = confirmed.get(place, -1)
            if version < change.version or change.origin != origin:
                found.append(change)
            elif version == change.version:
                del confirmed[place]
        return found

    # -- groups

    def _plan(self) -> None:
        """Begin a group at the end of this turn of the loop, so that all who come in it are in."""
        if self._waiting and not self._planned and self._groups < _GROUPS:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._planned = False
        group = self._collect()
        while self._places and len(self._waiting) < _WAITING:
            place = self._places.popleft()
            if not place.done():
                place.set_result(None)
        if group:
            self._groups += 1
            self._busy.update([item.place for item in group])
            self._spawn(self._commit(group))

    def _collect(self) -> list[Item]:
        """The next group, in order: each key once, and all equally strict."""
        group: list[Item] = []
        left: deque[Item] = deque()
        taken = set(self._busy)
        while self._waiting and len(group) < _GROUP:
            item = self._waiting.popleft()
            if item.done.done():  # its caller has gone
                continue
            if item.place in taken or (group and item.strict != group[0].strict):
                left.append(item)
            else:
                group.append(item)
            taken.add(item.place)
        left.extend(self._waiting)
        self._waiting = left
        return group

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _commit(self, group: Sequence[Item]) -> None:
        fences = self.fences()

        async def before_commit(outcomes: Sequence[RowWritten | CacheError]) -> None:
            made = [
                item
                for item, outcome in zip(group, outcomes, strict=True)
                if item.fenced and not isinstance(outcome, CacheError) and outcome.applied
            ]
            await fences.put(made)

        outcomes: Sequence[RowWritten | CacheError | BaseException]
        try:
            changes = [item.change for item in group]
            outcomes = await self._storage.write(changes, before_commit=before_commit)
            self.commits += 1
        except BaseException as error:  # noqa: BLE001 - it is the callers'
            outcomes = [error] * len(group)
        self._groups -= 1
        self._busy.difference_update([item.place for item in group])
        self._plan()
        await self._finish(group, outcomes, fences)

    async def _finish(
        self,
        group: Sequence[Item],
        outcomes: Sequence[RowWritten | CacheError | BaseException],
        fences: Fences,
    ) -> None:
        """Tell the cache, and then the callers."""
        if FAILPOINTS:
            await hit("after-commit-before-put")
        made = {
            item: outcome
            for item, outcome in zip(group, outcomes, strict=True)
            if type(outcome) is RowWritten and outcome.applied
        }
        self.rows += len(made)
        unknown = any(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)
        if unknown:
            # The commit may still come: until it can't, the fences stand.
            late = asyncio.create_task(fences.release_late())
            self._late.add(late)
            late.add_done_callback(self._late.discard)
        else:
            await fences.fill(made)
        unfenced = {
            item: outcome.version for item, outcome in made.items() if item not in fences.taken
        }
        if unfenced:
            await self._invalidate(unfenced)
        for item, outcome in zip(group, outcomes, strict=True):
            item.settle(outcome)

    async def _invalidate(self, items: Mapping[Item, int]) -> None:
        """Remove copies after the commit, and end the claims that may have read the row before."""
        by_region: dict[str, list[Drop]] = {}
        versions = {item.place: version for item, version in items.items()}
        for region, key in versions:
            by_region.setdefault(region, []).append(Drop(key, RemovalCause.INVALIDATED))
        for region, drops in by_region.items():
            with suppress(CacheError):  # else the relay does it
                outcomes = await self._backend.write(region, drops)
                for drop, outcome in zip(drops, outcomes, strict=True):
                    if not isinstance(outcome, CacheError):
                        self._confirm((region, drop.key), versions[region, drop.key])
