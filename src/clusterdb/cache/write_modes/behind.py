"""Write-behind: a write is made durable, then cached, and reaches storage in batches.

1. **The intent is durable first**, at the level that was asked for (:class:`Intents`); with it the
   write is accepted.
2. **The cache is written**, and the caller goes on. If it can't be, the write stands all the same.
3. **A flusher** writes what is pending to storage in batches, the newest intent of each key, as its
   version says: a row that has a higher one is left alone, so a batch may come late, or twice.

While an intent is pending it is newer than storage: a read takes the newer one of it and of the
cached copy, and asks storage only without both. So a copy may be lost at any time, also before its
flush. A copy that another process wrote in the wrong order, or that a flush has overtaken, is found
by its version: by the relay, or by the flush that finds a newer row.

A batch that fails is made smaller, and comes after all others: one row that somebody has locked for
hours keeps nothing from being written but itself.

A row that the database refuses is put aside with its error, and its copy goes; the rest of its
batch is written.

Memory is bounded. A write that finds too much pending waits, and fails with :class:`Overloaded`
where storage does not catch up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from ..backoff import Backoff
from ..clock import Clock
from ..codec import stamped
from ..config import WriteBehind
from ..errors import BackendUnavailable, CacheError, Overloaded, StorageUnavailable
from ..failpoints import FAILPOINTS, hit
from ..intents import Intent, Intents, Mine, PutAside
from ..protocols import Backend, Drop, Put, Written
from ..rows import RowWritten, Storage
from ..types import MISSING, RemovalCause
from ..versions import Versions
from .batches import Batches
from .pending import Pending
from .progress import Progress
from .rows import Shape, row_version

__all__ = ["Behind", "IntentsOf"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_MOST: Final = 100_000
_MOST_BYTES: Final = 64 * 1024 * 1024
_PATIENCE: Final = 5.0
_ADOPT_EVERY: Final = 10.0
_FAILURES: Final = 3
"""Batches of others that may fail while somebody waits for what is in none of them."""

IntentsOf: TypeAlias = Callable[[WriteBehind], Intents]
"""Makes the place of a mode's intents."""


class Behind:
    """What is written behind to one storage, as one mode says."""

    def __init__(
        self,
        mode: WriteBehind,
        storage: Storage,
        backend: Backend,
        clock: Clock,
        shapes: Mapping[str, Shape],
        intents: Intents,
        mine: Mine,
    ) -> None:
        self.mode = mode
        self._storage = storage
        self._backend = backend
        self._clock = clock
        self._shapes = shapes
        self._intents = intents
        self._mine = mine
        self._versions = Versions(clock)
        self._queue = Pending()
        self._batches = Batches(storage, clock, shapes, intents, self._versions)
        self._tasks: set[asyncio.Task[None]] = set()
        self._flusher: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._round = asyncio.Condition()
        self._urgent = self._rounds = 0
        self._progress = Progress(mode.batch_size)
        self.flushed = 0
        self.refused = 0

    @property
    def pending(self) -> int:
        """Intents whose rows are not written yet, of this process."""
        return len(self._queue)

    @property
    def problems(self) -> list[str]:
        """Sentences for a person."""
        found = []
        if self._progress.error is not None:
            found.append(self._waits())
        if self.refused:
            found.append(
                f"{self.refused} rows were refused by the database and put aside: "
                f"cache storage pending shows them"
            )
        return found

    def _waits(self) -> str:
        return f"{self.pending} rows wait to be written behind: {self._progress.error}"

    # -- life

    async def open(self) -> None:
        """Take up what is left from earlier, and begin to flush."""
        self._wake, self._round = asyncio.Event(), asyncio.Condition()
        self._take_up(await self._intents.open(self._mine))
        self.refused = sum([self._mine(each.region) for each in await self._intents.aside()])
        self._flusher = asyncio.create_task(self._flush(), name="clusterdb-cache-flusher")

    async def aclose(self) -> None:
        """Flush, and end. What can't be flushed stays where it is durable."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        flusher, self._flusher = self._flusher, None
        if flusher is not None:
            await self._finish(flusher)
        await self._intents.aclose()

    async def _finish(self, flusher: asyncio.Task[None]) -> None:
        """Let the flusher do what it can, and end it."""
        try:
            await self.settle()
        except CacheError as error:
            lost = "lost" if self.mode.durability == "memory" else "kept for the next start"
            _LOG.warning(
                "%d rows were not written behind, and are %s: %s", self.pending, lost, error
            )
        flusher.cancel()
        await asyncio.wait({flusher})

    def forked(self) -> None:
        """In the child of a fork: what is accepted is the parent's to write."""
        self._intents.forked()

    def _take_up(self, intents: Sequence[Intent]) -> None:
        self._batches.took_up(intents)
        for intent in intents:
            self._versions.follow(intent.version)
            self._queue.add(intent)

    def saw(self, version: int) -> None:
        """A row has this version: later writes have higher ones."""
        self._versions.follow(version)

    # -- writing and reading

    async def write(self, region: str, changes: Sequence[Put | Drop]) -> list[Written | CacheError]:
        """Accept changes, and cache them. Raises :class:`Overloaded`. Cost: one write to the place
        of intents, shared, and one round trip to the cache.
        """
        await self._admit()
        applied = await self._present(region, [each for each in changes if isinstance(each, Drop)])
        task = asyncio.create_task(self._accept(region, changes))
        self._tasks.add(task)
        task.add_done_callback(self._accepted)
        await asyncio.shield(task)
        return [
            Written(applied=applied.get(change.key, False))
            if isinstance(change, Drop)
            else Written(applied=True, version=self._version(region, change.key))
            for change in changes
        ]

    def _accepted(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited may be gone: nobody else would look

    def _version(self, region: str, key: str) -> int:
        known = self._queue.get((region, key))
        return 1 if known is None else known.version

    async def _present(self, region: str, drops: Sequence[Drop]) -> dict[str, bool]:
        """Which of the keys that are to be deleted are there."""
        if not drops:
            return {}
        keys = [drop.key for drop in drops]
        found = {
            key: intent.value is not MISSING for key, intent in self.known(region, keys).items()
        }
        rest = [key for key in keys if key not in found]
        try:
            rows = await self._storage.read(region, rest) if rest else []
        except StorageUnavailable:  # the deletion is accepted all the same
            return found | dict.fromkeys(rest, True)
        return found | {key: row is not None for key, row in zip(rest, rows, strict=True)}

    async def _accept(self, region: str, changes: Sequence[Put | Drop]) -> None:
        changes = list({change.key: change for change in changes}.values())  # the last of a key
        intents = await self._intents.append([self._intent(region, each) for each in changes])
        cached = [
            Put(each.key, stamped(each.value, intent.version), each.ttl, each.tags)
            if isinstance(each, Put)
            else Drop(each.key)
            for each, intent in zip(changes, intents, strict=True)
        ]
        if FAILPOINTS:
            await hit("after-intent-before-put")
        with suppress(CacheError):  # intents are newer than copies, and a flush removes what is old
            await self._backend.write(region, cached)
        for intent in intents:
            self._queue.add(intent)
        self._wake.set()

    def _intent(self, region: str, change: Put | Drop) -> Intent:
        version = self._versions.draw()
        if isinstance(change, Drop):
            return Intent(region, change.key, MISSING, version)
        lasts = None if change.default_ttl or change.ttl is None else change.ttl
        deadline = None if lasts is None else self._clock.wall() + lasts
        return Intent(region, change.key, change.value, version, deadline, change.tags)

    async def _admit(self) -> None:
        """Wait for a place in memory."""
        if not self._full:
            return
        self._wake.set()
        try:
            async with asyncio.timeout(_PATIENCE), self._round:
                await self._round.wait_for(lambda: not self._full)
        except TimeoutError:
            raise Overloaded(self.pending, _MOST) from self._progress.error

    @property
    def _full(self) -> bool:
        return len(self._queue) >= _MOST or self._queue.size >= _MOST_BYTES

    def known(self, region: str, keys: Sequence[str]) -> dict[str, Intent]:
        """The pending intents of ``keys`` that this process knows of."""
        found = {key: self._queue.get((region, key)) for key in keys}
        return {key: intent for key, intent in found.items() if intent is not None}

    async def find(self, region: str, keys: Sequence[str]) -> dict[str, Intent]:
        """The pending intents of ``keys``, also those of other processes, where they are shared."""
        found = self.known(region, keys)
        for intent in await self._intents.find(region, keys):
            known = found.get(intent.key)
            if known is None or known.version < intent.version:
                found[intent.key] = intent
        return found

    async def aside(self) -> list[PutAside]:
        """What the database refused."""
        return await self._intents.aside()

    # -- flushing

    async def settle(self, places: Sequence[tuple[str, str]] | None = None) -> None:
        """Write what is pending now, of ``places`` or all. Raises :class:`StorageUnavailable` with
        what keeps it from being written.
        """
        wanted = self._queue.versions(places)
        self._urgent += 1
        failures = 0
        try:
            while self._queue.behind(wanted):
                self._wake.set()
                seen = self._rounds
                async with self._round:
                    await self._round.wait_for(lambda: self._rounds != seen)  # noqa: B023
                failures += bool(self._progress.just_failed)
                if self._progress.just_failed & wanted.keys() or failures >= _FAILURES:
                    raise StorageUnavailable(self._waits()) from self._progress.error
        finally:
            self._urgent -= 1

    async def _flush(self) -> None:
        backoff = Backoff(0.05, 5.0)
        adopted = self._clock.now()
        while True:
            await self._rest()
            if self._clock.now() - adopted >= _ADOPT_EVERY:
                adopted = self._clock.now()
                await self._adopt()
            batch = self._queue.take(self._progress.size)
            failed = None if not batch else await self._write(batch)
            self._note(batch, failed)
            self._rounds += 1
            async with self._round:
                self._round.notify_all()
            if failed is None:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.pause())

    def _note(self, batch: Sequence[Intent], failed: CacheError | None) -> None:
        places = [intent.place for intent in batch]
        if failed is None:
            self._progress.succeeded(places)
        else:
            left = [place for place in places if self._queue.get(place) is not None]
            self._progress.failed(left, len(batch), failed)

    async def _rest(self) -> None:
        """Until there is a batch, or the time of what there is has come."""
        while not self._queue.waiting:
            self._wake.clear()
            if await self._pause(_ADOPT_EVERY):
                return
        deadline = self._clock.now() + self.mode.flush_interval
        while self._queue.waiting < self._progress.size and not self._urgent:
            left = deadline - self._clock.now()
            self._wake.clear()
            if left <= 0 or await self._pause(left):
                return

    async def _pause(self, seconds: float) -> bool:
        """Until somebody wakes us; whether nobody did for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return True
        return False

    async def _adopt(self) -> None:
        try:
            self._take_up(await self._intents.adopt(self._mine))
        except CacheError as error:
            _LOG.warning("what another process left to be written can't be read: %s", error)

    async def _write(self, batch: Sequence[Intent]) -> CacheError | None:
        """Write a batch; the error that kept it from being written."""
        try:
            batch, outcomes = await self._batches.write(batch)
            if FAILPOINTS:
                await hit("after-flush-before-forget")
            return await self._take_in(batch, outcomes)
        except CacheError as error:
            self._queue.failed(batch)
            return error

    async def _take_in(
        self, batch: Sequence[Intent], outcomes: Sequence[RowWritten | CacheError]
    ) -> CacheError | None:
        done: list[Intent] = []
        again: list[Intent] = []
        old: list[Intent] = []
        error: CacheError | None = None
        for intent, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, StorageUnavailable | BackendUnavailable):
                again.append(intent)
                error = outcome
            elif isinstance(outcome, CacheError):
                code = getattr(outcome, "code", type(outcome).__name__)
                now = self._clock.wall()
                refused = PutAside(*intent.place, intent.version, code, str(outcome), now)
                await self._intents.put_aside(intent, refused)
                self.refused += 1
                old.append(intent)
                done.append(intent)
            else:
                self.flushed += outcome.applied
                if outcome.version > intent.version:
                    old.append(intent)
                done.append(intent)
        await self._forget_copies(old)
        await self._intents.flushed(done)
        self._queue.settled(done)
        self._batches.done(done)
        self._queue.failed(again)
        return error

    async def _forget_copies(self, intents: Sequence[Intent]) -> None:
        """Remove the cached copies that are no newer than ``intents``, which did not reach storage
        as they are.
        """
        for intent in intents:
            try:
                [record] = await self._backend.peek(intent.region, [intent.key], stale=True)
                if row_version(record) <= intent.version:
                    drop = Drop(intent.key, RemovalCause.INVALIDATED)
                    await self._backend.write(intent.region, [drop])
            except CacheError as error:
                _LOG.warning("the copy of %r may be old: %s", intent.key, error)
