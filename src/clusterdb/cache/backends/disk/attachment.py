"""The file of one backend: opened when a call needs it, and again when it was lost.

A file is in use in one event loop at a time (:mod:`.attached`). When that loop has ended, or the
file was deleted or replaced underneath, the next call attaches anew. What must outlive that is
here: claims that are owed to the file, what was already added to its figures, and settings of
regions that it does not have yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeVar

from ...clock import Clock
from ...errors import BackendUnavailable
from ...near import NearTier
from ...protocols import Follower
from ...settings import RegionSettings
from ...stats import Counters
from ..offloop import off_loop
from .attached import Attached
from .claiming import DiskClaims
from .file import CacheFile
from .rows import Effects
from .transaction import Transaction
from .writer import Job

__all__ = ["Attachment"]

T = TypeVar("T")

_LOG: Final = logging.getLogger("clusterdb.cache")

_loop = asyncio.get_running_loop


class Attachment:
    """How one backend has its file. ``totals`` tells what this process counted in a region,
    ``delivered`` is told what each transaction did.
    """

    def __init__(
        self,
        file: CacheFile,
        clock: Clock,
        near: NearTier,
        settings: Mapping[str, RegionSettings],
        totals: Callable[[str], Counters],
        delivered: Callable[[Effects], None],
    ) -> None:
        self.file = file
        self.claims = DiskClaims()
        self.unapplied: dict[str, RegionSettings] = {}
        self.attached: Attached | None = None
        self.notes: dict[str, str] = {}
        self._applied: set[str] = set()
        self._clock = clock
        self._near = near
        self._settings = settings
        self._totals = totals
        self._delivered = delivered
        self._told: dict[str, Counters] = {}
        self._follower: Follower | None = None
        self._attaching: asyncio.Task[Attached] | None = None
        self._open = False

    # -- life

    async def open(self) -> None:
        """Attach in this loop."""
        self._open = True
        self.claims.drop_all()
        self.unapplied.update(self._settings)
        if self._attaching is not None and self._attaching.get_loop() is not _loop():
            self._attaching = None
        await self.get()

    async def aclose(self) -> None:
        """Let go of the file."""
        self._open = False
        if self._attaching is not None and self._attaching.get_loop() is _loop():
            self._attaching.cancel()
            await asyncio.wait({self._attaching})
        attached, self.attached = self.attached, None
        self._near.lapse()
        if attached is not None:
            await attached.aclose()

    def follow(self, follower: Follower | None) -> None:
        """Tell ``follower`` of what other processes change."""
        self._follower = follower
        if self.attached is not None:
            self.attached.follower = follower

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        """Around a fork, of which the near tier is told too."""
        if moment == "before":
            self.file.opening.acquire()
            if self.attached is not None:
                self.attached.hold()
            self._near.hold()
        elif moment == "parent":
            self._near.resume()
            if self.attached is not None:
                self.attached.resume()
            self.file.opening.release()
        else:
            self.file.opening.release()
            self._near.forked()
            self.claims = DiskClaims()
            self._told = {name: self._totals(name) for name in self._settings}
            if self.attached is not None:
                self.attached.abandon()
            self.attached = self._attaching = None

    # -- use

    @property
    def inline(self) -> bool:
        """Whether calls may come from a thread without a loop."""
        return self.attached is not None and self.attached.inline and not self.unapplied

    async def get(self) -> Attached:
        """The file in use, with the latest settings of the regions applied. Raises as
        :meth:`CacheFile.open` does.
        """
        attached = self.attached
        if attached is None or not attached.usable:
            attached = await self._attach()
        if self.unapplied:
            await self._apply(attached)
        return attached

    async def do(self, job: Job[T], region: str | None = None) -> T:
        """Run a job in the next transaction, after what tells it how ``region`` was used. Raises as
        :meth:`Writer.do` does.
        """
        attached = await self.get()
        uses = {} if region is None else attached.upkeep.uses(region)
        if region is None or not uses:
            return await attached.do(job)

        def with_uses(transaction: Transaction) -> T:
            transaction.rows.used(region, uses)
            return job(transaction)

        return await attached.do(with_uses)

    async def _apply(self, attached: Attached) -> None:
        """Every call waits for it that comes before it is done."""
        applied = dict(self.unapplied)
        uses = {name: attached.upkeep.uses(name) for name in applied}

        def job(transaction: Transaction) -> dict[str, tuple[object, ...] | None]:
            return {name: transaction.rows.apply_settings(name, uses[name]) for name in applied}

        for name, before in (await attached.do(job)).items():
            first = name not in self._applied
            self._applied.add(name)
            if before is not None and first:  # later changes are this program's own
                self._tell_changed(name, before, applied[name])
        for name, settings in applied.items():
            if self.unapplied.get(name) is settings:
                del self.unapplied[name]

    def _tell_changed(self, name: str, before: tuple[object, ...], now: RegionSettings) -> None:
        """Limits are those of who opened the file last: the others should know."""
        policy, items, weight = before
        note = (
            f"cache file {str(self.file.path)!r}: region {name!r} had policy {policy}, max_items "
            f"{items}, max_memory {weight}, and has {now.policy}, {now.max_items}, "
            f"{now.max_weight} now; give all programs of the file the same"
        )
        _LOG.warning("%s", note)
        self.notes[name] = note

    async def _attach(self) -> Attached:
        if not self._open:
            raise BackendUnavailable(f"cache file {str(self.file.path)!r} was closed")
        if self._attaching is None:
            self._attaching = asyncio.create_task(self._make_attached())
        return await asyncio.shield(self._attaching)

    async def _make_attached(self) -> Attached:
        try:
            before, self.attached = self.attached, None
            if before is not None:  # of a file that was replaced, or of a loop that ended
                before.drop()
                await before.ended()
            await off_loop(self.file.open)
            with self.file.opening:  # a fork finds all connections or none
                attached = self.attached = Attached(
                    self.file,
                    self._clock,
                    self._near,
                    self.claims,
                    self._settings,
                    self._totals,
                    self._delivered,
                    self._told,
                )
            attached.follower = self._follower
            await attached.start()
            self.unapplied.update(self._settings)
            return attached
        finally:
            self._attaching = None
