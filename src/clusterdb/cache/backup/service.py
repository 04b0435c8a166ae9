"""The Backup Service: makes, lists, checks, restores and removes the backups of one cache.

It knows the cache as its :class:`Host`, the place of the backups as an :class:`ObjectStore`. Each
call looks at the place anew, as other processes work there too; none needs a lock: names are taken
by a conditional create, and a backup exists from the moment its manifest does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib import metadata
from typing import Final, Literal, Protocol

import msgspec

from ..clock import Clock
from ..config import BackupConfig
from ..errors import BackupCorrupt, BackupError, CacheError, UnknownRegion
from ..keys import matcher
from ..protocols import Backend, Exported, Overwrite, Written
from .chains import Catalog, abandoned, expired, next_sequence, pick, usable_parent
from .creating import Creation, Limits, Progress
from .index import Index
from .manifest import Manifest, RegionCounts
from .objects import ObjectStore
from .repository import Repository
from .restoring import Restoration, RestoreReport, Selection, read_index
from .sealing import Keyring
from .throttle import Pace, Throttle
from .verifying import Verification, VerifyReport

__all__ = ["BackupInfo", "Backups", "Host", "PruneReport"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_NAMES_TRIED: Final = 5


class BackupInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A backup, as a list shows it.

    ``entries`` were there when it was made; it holds ``stored`` of them itself, in ``size`` bytes,
    and the others are in the ``chain`` before it. ``gone`` entries of the backup before it were not
    there any more, ``unreadable`` ones could not be backed up: ``problems`` names the first. Times
    are seconds since the Unix epoch. ``problem``: why it can't be restored, if so.
    """

    id: str
    kind: Literal["full", "incremental", "unfinished", "unreadable"]
    cache: str = ""
    backend: str = ""
    chain: tuple[str, ...] = ()
    started: float = 0.0
    finished: float = 0.0
    entries: int = 0
    stored: int = 0
    gone: int = 0
    unreadable: int = 0
    size: int = 0
    encrypted: bool = False
    regions: dict[str, RegionCounts] = {}
    problems: tuple[str, ...] = ()
    problem: str = ""


class PruneReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed, or would be in a ``dry_run``: ``backups`` past their time, and
    ``unfinished`` ones that nobody works on any more.
    """

    backups: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    dry_run: bool = False


class Host(Protocol):
    """The cache whose backups these are."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def clock(self) -> Clock:
        """Its clock."""
        ...

    @property
    def backend(self) -> Backend:
        """Where its entries live."""
        ...

    @property
    def regions(self) -> Sequence[str]:
        """Its regions."""
        ...

    async def ready(self) -> None:
        """Open it, if that was not done yet."""
        ...

    def place(self) -> ObjectStore:
        """The place of the backups, for one call."""
        ...

    def scratch(self) -> Backend:
        """An empty backend with its regions, not opened, in which nothing is kept."""
        ...

    def restored(self, region: str, written: Sequence[tuple[Exported, Written]]) -> None:
        """Hear of what a restore wrote."""
        ...


class Backups:
    """The backups of one cache: ``cache.backups``.

    Every method raises :class:`BackupUnavailable` where their place can't be reached. A
    ``progress`` is told how many entries more are done.
    """

    def __init__(self, config: BackupConfig, host: Host) -> None:
        self._config, self._host = config, host
        self._keys = Keyring(config.encryption)

    async def create(
        self,
        *,
        kind: Literal["full", "incremental"] | None = None,
        progress: Progress | None = None,
        throttle: Pace | None = None,
    ) -> BackupInfo:
        """Back up all regions, no faster than the configuration allows, or ``throttle``.

        ``kind`` is by default what ``full_every`` says; an incremental one becomes a full one where
        there is none to build on. Two round trips a node and 500 entries.
        """
        await self._host.ready()
        async with self._repository() as repository:
            catalog = await repository.catalog()
            parent = None
            if kind != "full":
                every = self._config.full_every if kind is None else 1_000_000
                first = self._keys.first
                parent = usable_parent(catalog, every, [first.id if first else ""])
            index = Index()
            try:
                if parent is not None and not await self._learn(repository, parent, index):
                    await asyncio.to_thread(index.close)
                    parent, index = None, Index()
                about = await self._begin(repository, catalog, parent)
                manifest = await Creation(
                    self._host.backend,
                    repository,
                    self._host.clock,
                    about,
                    index,
                    limits=Limits(
                        parallel=self._config.parallel, file_size=int(self._config.file_size)
                    ),
                    throttle=throttle or self._throttle(),
                    progress=progress or _nobody,
                ).run()
            finally:
                await asyncio.to_thread(index.close)
        return _info(manifest)

    async def list(self) -> list[BackupInfo]:
        """All backups, the oldest first, then what can't be read and what was never finished. One
        request for each.
        """
        async with self._repository() as repository:
            catalog = await repository.catalog()
        found = [_info(each, _problem(catalog, each)) for each in catalog.complete]
        found += [
            BackupInfo(id=name, kind="unreadable", problem=str(error))
            for name, error in catalog.unreadable.items()
        ]
        why = "it was begun and is not finished"
        found += [
            BackupInfo(id=name, kind="unfinished", problem=why) for name in catalog.unfinished
        ]
        return found

    async def verify(
        self, backup: str | None = None, *, progress: Progress | None = None
    ) -> VerifyReport:
        """Read back every block of a backup (by default the last good one) and of those it needs,
        and restore some entries of each region for a trial.

        Raises :class:`UnknownBackup`, :class:`WrongKey`, and :class:`NotSupported` for one of a
        newer release; what is damaged or missing is in the report.
        """
        async with self._repository() as repository:
            catalog = await repository.catalog()
            try:
                chain = catalog.chain(pick(catalog, backup))
            except BackupCorrupt as error:
                return VerifyReport(backup=backup or "", problems=[str(error)])
            looking = Verification(
                repository, chain, self._host.scratch, self._host.regions, progress or _nobody
            )
            return await looking.run()

    async def restore(
        self,
        backup: str | None = None,
        *,
        regions: Iterable[str] | None = None,
        pattern: str = "*",
        overwrite: Overwrite = "older",
        ttl: Literal["absolute", "remaining"] = "absolute",
        dry_run: bool = False,
        progress: Progress | None = None,
        throttle: Pace | None = None,
    ) -> RestoreReport:
        """Put back what a backup holds: by default the last good one, all regions, all keys.

        Entries go in under their own version, and by default never over a newer one; ``overwrite``
        may be ``always`` or ``never``. With ``ttl="absolute"`` an entry ends when it would have
        ended anyway, with ``remaining`` it has as long to live as it had. A ``dry_run`` reads and
        compares, and writes nothing.

        Raises :class:`UnknownBackup`, :class:`UnknownRegion`, :class:`WrongKey` and
        :class:`BackupCorrupt` before anything is written, :class:`RestoreStopped` later. One round
        trip a node and 1000 entries.
        """
        matches = matcher(pattern)
        await self._host.ready()
        async with self._repository() as repository:
            catalog = await repository.catalog()
            chain = catalog.chain(pick(catalog, backup))
            selection = Selection(
                regions=self._chosen(chain, regions),
                matches=matches,
                overwrite=overwrite,
                ttl=ttl,
                dry_run=dry_run,
            )
            return await Restoration(
                self._host.backend,
                repository,
                self._host.clock,
                chain,
                selection,
                parallel=self._config.parallel,
                throttle=throttle or Throttle(None, None, self._host.clock.now),
                progress=progress or _nobody,
                told=self._host.restored,
            ).run()

    async def prune(self, *, dry_run: bool = False) -> PruneReport:
        """Remove the backups that are older than the retention, but never the last good one or one
        that another needs; and the rest of those that were never finished.
        """
        async with self._repository() as repository:
            if not dry_run:
                await repository.mark(b"{}\n")
            catalog = await repository.catalog()
            old = expired(catalog, self._host.clock.wall(), self._config.retention)
            rest = abandoned(catalog)
            for name in [] if dry_run else [*[each.id for each in old], *rest]:
                await repository.remove(name)
        return PruneReport(
            backups=tuple([each.id for each in old]), unfinished=tuple(rest), dry_run=dry_run
        )

    # -- inside

    @asynccontextmanager
    async def _repository(self) -> AsyncGenerator[Repository, None]:
        store = self._host.place()
        try:
            yield Repository(store, self._host.name, self._keys)
        finally:
            await store.aclose()

    async def _learn(self, repository: Repository, parent: Manifest, index: Index) -> bool:
        """Let ``index`` know a backup; whether that one's index could be read. Where it is damaged
        the next backup is a full one: better than none.
        """
        try:
            await read_index(repository, parent, index)
        except BackupCorrupt as error:
            _LOG.warning("the next backup is a full one: %s", error)
            return False
        return True

    async def _begin(
        self, repository: Repository, catalog: Catalog, parent: Manifest | None
    ) -> Manifest:
        """Take a name, and say what is known of the backup so far."""
        wall = self._host.clock.wall()
        sequence = next_sequence(catalog)
        for _ in range(_NAMES_TRIED):
            name = f"{sequence:08d}-{_stamp(wall)}-{secrets.token_hex(3)}"
            if await repository.begin(name, b"{}\n"):
                break
        else:
            raise BackupError(f"no name was free in {repository.place!r}: try again")
        first = self._keys.first
        return Manifest(
            release=_release(),
            id=name,
            cache=self._host.name,
            backend=self._host.backend.kind,
            sequence=sequence,
            kind="full" if parent is None else "incremental",
            chain=(name,) if parent is None else (*parent.chain, name),
            started=wall,
            finished=wall,
            regions={region: RegionCounts() for region in self._host.regions},
            files=(),
            cipher=self._keys.cipher if first else "",
            key_id=first.id if first else "",
        )

    def _throttle(self) -> Throttle:
        config = self._config
        return Throttle(config.entries_per_second, config.bytes_per_second, self._host.clock.now)

    def _chosen(self, chain: Sequence[Manifest], regions: Iterable[str] | None) -> frozenset[str]:
        """The regions to restore; each must be in the backup and in the cache."""
        there, held = self._host.regions, {name for each in chain for name in each.regions}
        wanted = set(chain[-1].regions if regions is None else regions)
        for name in sorted(wanted):
            if name not in held:
                raise UnknownRegion(name, sorted(held))
            if name not in there and any(each.regions.get(name, _NONE).stored for each in chain):
                raise UnknownRegion(name, there)
        return frozenset(wanted)


_NONE: Final = RegionCounts()


def _info(manifest: Manifest, problem: str = "") -> BackupInfo:
    return BackupInfo(
        id=manifest.id,
        kind=manifest.kind,
        cache=manifest.cache,
        backend=manifest.backend,
        chain=manifest.chain,
        started=manifest.started,
        finished=manifest.finished,
        entries=manifest.entries,
        stored=manifest.stored,
        gone=manifest.gone,
        unreadable=sum(counts.unreadable for counts in manifest.regions.values()),
        size=manifest.size,
        encrypted=bool(manifest.key_id),
        regions=manifest.regions,
        problems=manifest.problems,
        problem=problem,
    )


def _problem(catalog: Catalog, manifest: Manifest) -> str:
    try:
        catalog.chain(manifest)
    except CacheError as error:
        return str(error)
    return ""


def _nobody(done: int) -> None:
    """Nobody wants to know."""


@cache
def _release() -> str:
    """The version of this package; empty in a source tree that was never installed."""
    try:
        return metadata.version("clusterdb-cache")
    except metadata.PackageNotFoundError:
        return ""


def _stamp(wall: float) -> str:
    return f"{dt.datetime.fromtimestamp(wall, dt.UTC):%Y%m%dT%H%M%SZ}"
