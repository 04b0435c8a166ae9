"""The limits of regions that have their own: ``size`` and ``max_items``, over all processes.

Each process takes notes of what it writes, removes and (LRU, LFU) uses in limited regions, and
carries them to the region's :mod:`index <.index>` in batches, a quarter of a second later. One
process, elected by a lock, looks at the totals and removes what is too much
(:mod:`.sweeping`). So a region is within its limits a few seconds after the last write at the
latest; under a load, it is over them by what is written in about two seconds.

Why this way: notes cost a call nothing, neither a round trip nor a command of its own, and a
region without limits not even a note. Rejected: an index beside each entry, updated with it (in a
Cluster an index a slot or a server: thousands of keys to add up, or stale whenever a slot moves;
and a script more for each write); counting by ``SCAN`` alone (finds too late what is too much, and
not what was written first).

What it costs: notes that are lost with a process, of its last quarter of a second, leave entries
that no index knows; what a server evicts by itself, or another program removes, leaves members
without entries. Both are found by a slow look at everything (:mod:`.sweeping`).

**Order.** FIFO: by the time of the first write on the clock of the process that made it; what is
younger than a second is spared until the notes of other processes have come, so that the order is
as exact as the clocks. LRU: by the last use; of each key the first use in a minute is told. LFU:
by uses, told once a minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ...clock import Clock
from ...errors import CacheError, EntryTooLarge
from ...protocols import Add, Change, Drop, Put, Touch, Written
from ...settings import RegionSettings
from ...stats import Counters
from ...units import ByteSize
from .index import Index
from .link import Link
from .names import Names
from .nonces import Nonces
from .notes import Kind, Note, Notes
from .sweeping import Pace, Sweeping, microseconds

__all__ = ["Limits"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_MOST_WAITING: Final = 100_000
_CLOSES_WITHIN: Final = 1.0


class Limits:
    """Keeps the regions of one backend within their own limits. ``counters`` are the regions'."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        clock: Clock,
        counters: Mapping[str, Counters],
        shards: int,
    ) -> None:
        self.pace = Pace()
        self._clock = clock
        self._counters = counters
        self._index = Index(link, names, shards)
        self._sweeping = Sweeping(link, names, nonces, self._index, clock, counters)
        self._notes: dict[str, Notes] = {}
        self._task: asyncio.Task[Any] | None = None
        self._wake = asyncio.Event()
        self._turns_at = 0.0
        self._failing = False

    def __contains__(self, region: str) -> bool:
        """Whether a region has limits of its own."""
        return region in self._notes

    # -- life

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        """Take over the settings of regions."""
        for name, settings in regions.items():
            if not settings.own_limits:
                self._notes.pop(name, None)
            elif name in self._notes:
                self._notes[name].settings = settings
            else:
                self._notes[name] = Notes(settings)
        self._sweeping.configure(regions)

    def start(self) -> None:
        """See to the limits from now on, in the running loop, if there are any."""
        task = self._task
        loop = asyncio.get_running_loop()
        if task is not None and not task.done() and task.get_loop() is loop:
            return
        if not self._sweeping.regions:
            return
        self._wake = asyncio.Event()
        self._turns_at = self._clock.now() + self.pace.uses
        self._sweeping.pace = self.pace
        self._task = asyncio.create_task(self._run(), name="clusterdb-cache: limits of regions")

    async def _run(self) -> None:
        await asyncio.gather(self._tell(), self._sweeping.run())

    async def aclose(self) -> None:
        """Tell what is to be told, within a second, and leave the rest to the others."""
        task, self._task = self._task, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        task.cancel()
        await asyncio.wait({task})
        try:
            async with asyncio.timeout(_CLOSES_WITHIN):
                await self.tell()
                await self._sweeping.leave()
        except (CacheError, TimeoutError) as error:
            _LOG.info("limits of regions: the last notes did not reach a server: %s", error)

    def forked(self) -> None:
        """In the child of a fork: the notes are the parent's."""
        self._task = None
        self._notes = {name: Notes(notes.settings) for name, notes in self._notes.items()}
        self._sweeping.forked()

    # -- what happens

    def refusal(self, region: str, change: Change) -> EntryTooLarge | None:
        """Why a value may not be stored: alone it is over its region's size."""
        if not isinstance(change, Put):
            return None
        limit, weight = self._notes[region].settings.max_weight, _weight(change.key, change)
        if limit is None or weight <= limit:
            return None
        self._counters[region].rejections += 1
        return EntryTooLarge(change.key, weight, ByteSize(limit))

    def changed(self, region: str, change: Change, written: Written) -> None:
        """A change was made, or a removal found nothing to remove."""
        notes, time = self._notes[region], microseconds(self._clock)
        if isinstance(change, Drop):
            notes.take(change.key, Note("gone", time))
        elif not written.applied:
            return
        elif isinstance(change, Put):
            kind: Kind = "kept" if change.keep_ttl else "put"
            if change.when == "absent":
                kind = "new"
            ends = _ends(notes.settings, change.ttl, time)
            notes.take(change.key, Note(kind, time, _weight(change.key, change), ends))
        else:
            ends = _ends(notes.settings, change.ttl, time)
            if isinstance(change, Touch):
                note = Note("use", time, None, ends)
            else:
                weight = len(change.key.encode()) + len(str(written.total))
                note = Note("kept", time, weight, ends)
            notes.take(change.key, note)
        self._note_taken()

    def doubted(self, region: str, change: Change) -> None:
        """A change may have been made: count what may be there."""
        if isinstance(change, Put | Add):
            self.changed(region, change, Written(applied=True))

    def used(self, region: str, keys: Iterable[str]) -> None:
        """Entries were read."""
        notes = self._notes[region]
        notes.used(keys, microseconds(self._clock))
        if notes.waiting:
            self._note_taken()

    async def cleared(self, region: str) -> None:
        """A region is being cleared."""
        self.start()
        notes = self._notes.get(region)
        if notes is not None:
            notes.batch()
            await self._index.drop(region)
        self._sweeping.look_soon()

    def _note_taken(self) -> None:
        if not self._wake.is_set():
            self.start()
            self._wake.set()

    # -- telling

    async def totals(self, region: str) -> tuple[int, int]:
        """Entries and bytes of a region, with what this process has not told yet."""
        await self._tell_of(region, self._notes[region])
        found = await self._index.totals(region)
        return found.items, found.weight

    async def tell(self) -> None:
        """Tell all that is waiting. Raises what keeps a region's notes from being told."""
        if self._clock.now() >= self._turns_at:
            self._turns_at = self._clock.now() + self.pace.uses
            for notes in self._notes.values():
                notes.turn(microseconds(self._clock))
        for region, notes in list(self._notes.items()):
            await self._tell_of(region, notes)

    async def _tell_of(self, region: str, notes: Notes) -> None:
        batch = notes.batch()
        if not batch:
            return
        lost: Iterable[str] = batch
        try:
            lines = notes.lines(batch, microseconds(self._clock))
            lost = await self._index.note(region, notes.settings.policy, lines)
        finally:
            notes.put_back(batch, lost, _MOST_WAITING)

    async def _tell(self) -> None:
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._turns_at - self._clock.now())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            await asyncio.sleep(self.pace.notes)
            self._wake.clear()
            try:
                await self.tell()
            except CacheError as error:
                if not self._failing:
                    _LOG.warning("limits of regions: notes wait for a server: %s", error)
                self._failing = True
            else:
                self._failing = False
            if any(notes.waiting for notes in self._notes.values()):
                self._wake.set()


def _ends(settings: RegionSettings, ttl: float | None, time: int) -> int | None:
    """When an entry leaves its server, in microseconds since 1970."""
    return None if ttl is None else time + int((ttl + settings.grace) * 1_000_000)


def _weight(key: str, put: Put) -> int:
    """Payload and key in bytes."""
    return len(key.encode()) + len(put.value.payload)
