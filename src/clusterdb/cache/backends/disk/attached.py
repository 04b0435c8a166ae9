"""A cache file in use: its connections, this process as a member of it, and the background work.

It lives in one event loop, from the opening of the file until it is closed, lost (the file was
deleted or replaced underneath) or abandoned (in the child of a fork).
"""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from ...clock import Clock
from ...errors import BackendUnavailable, CacheError
from ...near import NearTier
from ...protocols import ChangeKind, Follower, RemoteChange
from ...settings import RegionSettings
from ...stats import Counters
from ...types import Version
from .claiming import DiskClaims
from .file import CacheFile
from .hints import Hints
from .members import join, leave
from .reader import ChangeRow, Reader
from .rows import Effects, Known, Rows
from .transaction import Transaction
from .upkeep import Upkeep
from .writer import Job, Writer

__all__ = ["Attached"]

T = TypeVar("T")

running_loop = asyncio._get_running_loop  # noqa: SLF001 - the public one raises without a loop

_MOST_CHANGES: Final = 5_000
_TICK: Final = 1.0
_BETWEEN_HINTS: Final = 0.002
_SWEEP: Final = 1_000


class Attached:
    """One open file in one event loop, to be started there."""

    def __init__(
        self,
        file: CacheFile,
        clock: Clock,
        near: NearTier,
        claims: DiskClaims,
        settings: Mapping[str, RegionSettings],
        totals: Callable[[str], Counters],
        delivered: Callable[[Effects], None],
        told: dict[str, Counters],
    ) -> None:
        self._file = file
        self._clock = clock
        self._near = near
        self._claims = claims
        self._settings = settings
        self._told = delivered
        self._loop = asyncio.get_running_loop()
        self._started = self._lost = False
        self._member = 0
        self._origin = f"{socket.gethostname()}:{os.getpid()}"
        self._addresses: list[str] = []
        self._seen = self._delivered_to = 0
        self._looked = 0.0
        self._known = Known()
        self.follower: Follower | None = None
        self.problem = ""
        self.reader = Reader(file)
        try:
            self._writer = Writer(file, self._begin, self._failed, self._delivered, self._committed)
        except BaseException:
            self.reader.close()
            raise
        self._hints = Hints(file.path)
        self.upkeep = Upkeep(
            self.reader, near, self._hints, settings, totals, claims, told, clock.now
        )
        self._background: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Become a member of the file. Raises as :meth:`do` does, and is then of no use."""
        try:
            address = self._hints.address
            self._member = await self.do(lambda found: join(found, address))
            self._seen = self.reader.last_change()
            self._file.watch_log()
            self._look_around()
            self._hints.tell(self._addresses)  # so that they know where to hint to us
        except BaseException:
            self.drop()
            raise
        self._near.lapse()
        self.poll()
        self._listen()
        self._background = self._loop.create_task(self._work(), name="clusterdb-cache-disk")
        self._started = True

    @property
    def usable(self) -> bool:
        """Whether it may be used here and now: in its loop, or in a thread without one."""
        return self._started and not self._lost and running_loop() in (self._loop, None)

    @property
    def inline(self) -> bool:
        """Whether a thread without a loop may use it: somebody else runs the loop, which tells
        what was done.
        """
        return self.usable and self._loop.is_running()

    @property
    def elsewhere(self) -> bool:
        """Whether this is another thread than the loop's."""
        return running_loop() is not self._loop

    def stored_now(self) -> float:
        """Now, in stored time."""
        return self._clock.now() + self._file.shift

    async def do(self, job: Job[T]) -> T:
        """Run a job in the writer's next transaction. Raises as :meth:`Writer.do` does."""
        try:
            done = await self._writer.do(job)
        except BackendUnavailable as error:
            self.problem = str(error)
            self._check_file()
            raise
        self.problem = ""
        return done

    # -- ending

    async def aclose(self) -> None:
        """Write what is still to be written, leave, and close. Figures that can't be written any
        more are lost.
        """
        if self._background is not None:
            self._background.cancel()
            await asyncio.wait({self._background})
        if not self._lost:
            last = self.upkeep.job(self.stored_now(), closing=True)

            def job(transaction: Transaction) -> None:
                if last is not None:
                    last(transaction)
                leave(transaction, self._member)

            try:
                await self.do(job)
            except BackendUnavailable as error:
                self.problem = str(error)
        await self._writer.aclose()
        self.drop()

    def drop(self) -> None:
        """Close without a word to the file."""
        self._lost = True
        self._near.lapse()
        self._claims.drop_all()
        if not self._loop.is_closed():
            self._listen(False)
            if self._background is not None:
                self._background.cancel()
        self.reader.close()  # before the other: two that close at once both leave the log behind
        self._writer.stop()
        self._hints.close()

    async def ended(self) -> None:
        """Wait, after :meth:`drop`, until the last connection is closed."""
        await self._writer.ended()

    def hold(self) -> None:
        """Before a fork: wait until no statement runs."""
        self._writer.hold()
        self.reader.hold()

    def resume(self) -> None:
        """After it, in the parent."""
        self.reader.resume()
        self._writer.resume()

    def abandon(self) -> None:
        """After it, in the child: nothing here is ours. The connections are closed before others
        are made: the child has none of the locks that the library believes in, and every new
        connection to the file would share that belief. A close in another process does nothing to
        the parent's locks, and while those stand nobody is taken for the last user.
        """
        self._lost = True
        self.reader.connection.close()
        self._writer.connection.close()
        self._hints.abandon()

    # -- what others do

    def poll(self) -> bool:
        """Look what other processes changed, and renew the lease; whether there was anything."""
        began = self._looked = self._clock.now()
        try:
            self._file.check_identity()
            rows = self.reader.changes(self._seen, _MOST_CHANGES + 1)
        except CacheError as error:
            self.problem = str(error)
            self._near.lapse()
            self._claims.drop_all()
            self._check_file()
            return False
        if rows and (rows[0][0] != self._seen + 1 or len(rows) > _MOST_CHANGES):
            missed = self.reader.last_change() - self._seen
            self._seen += missed
            self._near.drop_all()
            self._claims.drop_all()
            self.upkeep.found_dead()
            self._follow([RemoteChange("gap", count=missed)])
        elif rows:
            self._seen = rows[-1][0]
            for seq, kind, region, key, member, *_ in rows:
                if member != self._member or seq > self._delivered_to:
                    self._apply(seq, kind, region, key)
            self._follow([self._remote(row) for row in rows if row[4] != self._member])
        self._near.renew(began)
        return bool(rows)

    def _apply(self, seq: Version, kind: ChangeKind, region: str, key: str) -> None:
        """What a change means for the near tier and for claims."""
        if kind == "invalidate_tag":
            self._near.end_tag(key)
            self._claims.end_tag(key)
            self.upkeep.found_dead()
        elif kind == "clear":
            self._near.clear(region)
            self._claims.clear(region, seq)
            self.upkeep.found_dead()
        else:
            self._near.drop(region, key, self._clock.now())
            if kind != "evict":  # a dead row may be evicted while its key is loaded
                self._claims.drop(region, key, seq)

    def _remote(self, row: ChangeRow) -> RemoteChange:
        _, kind, region, key, _, origin, time, version = row
        return RemoteChange(kind, region, key, version, origin, time)

    def _follow(self, changes: list[RemoteChange]) -> None:
        if changes and self.follower is not None:
            self.follower(changes)

    def _hinted(self) -> None:
        """Look now, or as soon as the last look is a little ago: hints come in swarms."""
        wait = self._looked + _BETWEEN_HINTS - self._clock.now()
        if wait > 0:
            self._listen(False)
            self._loop.call_later(wait, self._listen_again)
            return
        self._hints.take()
        if not self.poll() and not self._lost:
            self._look_around()  # somebody came, or went

    def _listen_again(self) -> None:
        if not self._lost:
            self._listen()

    def _look_around(self) -> None:
        """Who else is there."""
        found = self.reader.members(self.stored_now(), self._clock.wall())
        self._addresses = [address for number, address, _ in found if number != self._member]

    # -- what we do

    def _begin(self, connection: sqlite3.Connection) -> Transaction:
        now, wall = self.stored_now(), self._clock.wall()
        rows = Rows(connection, self._known, self._settings, self._member, self._origin, now, wall)
        return Transaction(rows)

    def _failed(self) -> None:
        """In the writer's thread: a transaction was rolled back."""
        self._known = Known(rank=self._known.rank)
        self.upkeep.failed()

    def _delivered(self, effects: Effects | None) -> None:
        """What a transaction of ours did: told before its callers go on."""
        if effects is None:
            self._near.drop_all()
            self._claims.drop_all()
            return
        for seq, kind, region, key in effects.changes:
            self._apply(seq, kind, region, key)
        self._delivered_to = max(self._delivered_to, effects.seq)
        self._told(effects)

    def _committed(self) -> None:
        """In the writer's thread: hint to the others."""
        if self._addresses:
            self.upkeep.found_gone(self._hints.tell(self._addresses))

    def _listen(self, on: bool = True) -> None:
        if self._hints.socket is not None:
            if on:
                self._loop.add_reader(self._hints.socket, self._hinted)
            else:
                self._loop.remove_reader(self._hints.socket)

    # -- in the background

    async def settle(self) -> None:
        """Do the upkeep that is due now."""
        owed = list(self._claims.owed)
        job = self.upkeep.job(self.stored_now())
        if job is not None:
            await self.do(job)
            self._claims.paid(owed)

    async def _work(self) -> None:
        ticked = self._loop.time()
        while not self._lost:
            await asyncio.sleep(min(self._near.max_staleness / 3, _TICK))
            self.poll()
            if self._lost or self._loop.time() - ticked < _TICK:
                continue
            ticked = self._loop.time()
            try:
                self._restore_hints()
                self._look_around()
                await self.settle()
            except BackendUnavailable as error:  # told by describe(); the next tick tries again
                self.problem = str(error)
            self._near.sweep(self._clock.now(), _SWEEP)

    def _restore_hints(self) -> None:
        """Be heard of again where others removed our socket, as that of a process long silent."""
        if self._hints.lost:
            self._listen(False)
            self._hints.restore()
            self._listen()

    def _check_file(self) -> None:
        try:
            self._file.check_identity()
        except BackendUnavailable:
            self._lost = True
            self._near.lapse()
