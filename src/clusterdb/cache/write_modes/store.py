"""One storage in use: its queries, its commits, its relay, and what waits to be written behind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..clock import Clock
from ..config import CoherenceMode, WriteBehind
from ..errors import CacheError
from ..protocols import Backend
from ..rows import RowChanged, Storage
from ..settings import RegionSettings
from ..stats import StorageStats
from .asking import Asking
from .behind import Behind, IntentsOf
from .committing import Committer
from .relay import Relay
from .rows import Shape
from .through import Through

__all__ = ["Store"]


class Store:
    """A storage and the regions that have it, in one event loop at a time. ``intents`` gives the
    place for what is written behind, at the durability that is asked for.
    """

    def __init__(
        self,
        name: str,
        storage: Storage,
        origin: str,
        backend: Backend,
        clock: Clock,
        intents: IntentsOf,
    ) -> None:
        self.name = name
        self.storage = storage
        self.shapes: dict[str, Shape] = {}
        self._origin = origin
        self._backend = backend
        self._clock = clock
        self.asking = Asking(storage)
        self.committer = Committer(name, storage, backend)
        self.through = self._through()
        self._intents = intents
        self._opened = False
        self.behinds: dict[str, Behind] = {}
        self.relay = Relay(name, storage, backend, clock, self._regions, self._unknown, self._told)

    def _through(self) -> Through:
        return Through(self.storage, self.asking, self.committer, self.shapes)

    async def open(self) -> None:
        """Connect, take up what an earlier process left to be written, and follow changes."""
        await self.storage.open()
        self._opened = True
        self.asking = Asking(self.storage)
        self.committer = Committer(self.name, self.storage, self._backend)
        self.through = self._through()
        for behind in self._distinct():
            await behind.open()
        await self.relay.start()

    async def aclose(self) -> None:
        """Write what waits to be written, and end."""
        if not self._opened:
            return
        self._opened = False
        await self.relay.aclose()
        await self.committer.aclose()
        for behind in self._distinct():
            await behind.aclose()
        await self.asking.aclose()
        await self.storage.aclose()

    def forked(self) -> None:
        """In the child of a fork: what is open is the parent's."""
        for behind in self._distinct():
            behind.forked()

    def has(self, mode: CoherenceMode) -> bool:
        """Whether all that a mode of this storage needs is there."""
        return not isinstance(mode, WriteBehind) or any(
            each.mode == mode for each in self._distinct()
        )

    def add(self, settings: RegionSettings) -> None:
        """Have a region, or change its settings."""
        objects = "objects" in self.storage.capabilities
        self.shapes[settings.name] = Shape(settings, self._clock.wall, objects=objects)
        if isinstance(settings.mode, WriteBehind) and settings.name not in self.behinds:
            known = {each.mode: each for each in self._distinct()}
            self.behinds[settings.name] = known.get(settings.mode) or self._behind(settings.mode)

    def _behind(self, mode: WriteBehind) -> Behind:
        def mine(region: str) -> bool:
            return self.behinds.get(region) is made

        made = Behind(
            mode,
            self.storage,
            self._backend,
            self._clock,
            self.shapes,
            self._intents(mode),
            mine,
        )
        return made

    def _distinct(self) -> list[Behind]:
        return list(dict.fromkeys(self.behinds.values()))

    def _regions(self) -> Iterable[str]:
        return list(self.shapes)

    def _unknown(self, changes: Sequence[RowChanged]) -> Sequence[RowChanged]:
        return self.committer.unconfirmed(changes, self._origin)

    async def _told(self) -> None:
        await self.committer.told()

    @property
    def problems(self) -> list[str]:
        """Sentences for a person."""
        found = [self.relay.problem]
        for behind in self._distinct():
            found += behind.problems
        return [problem for problem in found if problem]

    async def stats(self) -> StorageStats:
        """Figures, with those of the database where it can be reached."""
        problems, behinds = self.problems, self._distinct()
        outbox: int | None = None
        try:
            info = await self.storage.describe()
            outbox = info.outbox
            problems += info.problems
        except CacheError as error:
            problems.append(str(error))
        return StorageStats(
            kind=self.storage.kind,
            regions=tuple(self.shapes),
            queries=self.asking.queries,
            rows_read=self.asking.rows,
            commits=self.committer.commits,
            rows_written=self.committer.rows + sum([each.flushed for each in behinds]),
            waiting=self.committer.waiting,
            pending=sum([each.pending for each in behinds]),
            refused=sum([each.refused for each in behinds]),
            relayed=self.relay.relayed,
            lag=self.relay.lag,
            outbox=outbox,
            problems=tuple(problems),
        )
