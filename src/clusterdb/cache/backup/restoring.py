"""Putting a backup back: every entry that was there then, unless something newer is there now.

Entries go in under the version they had, so it does not matter in which order files are read, how
often a restore is started again, or who writes meanwhile: the later version stays. Of a chain only
the entries that the index of the chosen backup names are taken, each from the backup that holds it:
what was deleted or replaced before it was made never appears, not even for a moment.

Before the first entry is written, all manifests of the chain were read and every file was found to
be there in its length. A damaged block ends the restore, and nothing of it is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

import msgspec

from ..clock import Clock
from ..errors import CacheError, RestoreStopped
from ..protocols import Backend, Exported, Overwrite, Written
from .creating import Progress, all_of
from .index import Index, key_hash
from .manifest import BackupFile, Manifest
from .repository import Repository
from .throttle import Pace

__all__ = ["Restoration", "RestoreReport", "Selection", "read_index"]

_MOST_FAILURES: Final = 100
_AT_ONCE: Final = 1_000


class RestoreReport(msgspec.Struct, kw_only=True):
    """What became of the entries of a backup: ``restored``; ``kept`` is what was left as it is, as
    something newer, or not to be replaced, is there; ``expired`` is past its time; ``failed`` could
    not be stored, the first with a reason in ``failures``. ``dry_run``: nothing was done, and these
    are the figures as they would be.
    """

    backup: str
    restored: int = 0
    kept: int = 0
    expired: int = 0
    failed: int = 0
    failures: list[str] = []
    dry_run: bool = False

    @property
    def seen(self) -> int:
        """How many entries were looked at."""
        return self.restored + self.kept + self.expired + self.failed


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are restored, and how: those of ``regions`` whose keys match.

    ``ttl``: an ``absolute`` one ends when it would have ended without the loss; a ``remaining`` one
    has as long to live as it had when the backup was made.
    """

    regions: Collection[str]
    matches: Callable[[str], bool]
    overwrite: Overwrite = "older"
    ttl: Literal["absolute", "remaining"] = "absolute"
    dry_run: bool = False


class Restoration:
    """One restore of ``chain``, the last of which is the backup that is wanted. ``told`` hears
    which keys of a region were written.
    """

    def __init__(
        self,
        backend: Backend,
        repository: Repository,
        clock: Clock,
        chain: Sequence[Manifest],
        selection: Selection,
        *,
        parallel: int,
        throttle: Pace,
        progress: Progress,
        told: Callable[[str, Sequence[tuple[Exported, Written]]], None],
    ) -> None:
        self._backend, self._repository, self._clock = backend, repository, clock
        self._chain, self._selection = chain, selection
        self._parallel, self._throttle, self._progress = parallel, throttle, progress
        self._told = told
        self._index: Index | None = None
        self.report = RestoreReport(backup=chain[-1].id, dry_run=selection.dry_run)

    async def run(self) -> RestoreReport:
        """Do it. Raises :class:`RestoreStopped` where it can't go on."""
        try:
            await self._run()
        except CacheError as error:
            raise RestoreStopped(str(error), self.report) from error
        return self.report

    async def _run(self) -> None:
        point = self._chain[-1]
        if len(self._chain) == 1 and not point.repeated:
            await self._all_files()
            return
        self._index = Index()
        try:
            await read_index(self._repository, point, self._index)
            await self._all_files()
        finally:
            await asyncio.to_thread(self._index.close)

    async def _all_files(self) -> None:
        gate = asyncio.Semaphore(self._parallel)

        async def restore(manifest: Manifest, file: BackupFile) -> None:
            async with gate:
                await self._file(manifest, file)

        await all_of(
            restore(manifest, file)
            for manifest in reversed(self._chain)
            for file in manifest.files
            if file.kind == "entries" and file.region in self._selection.regions
        )

    async def _file(self, manifest: Manifest, file: BackupFile) -> None:
        async with aclosing(self._repository.blocks(manifest, file)) as blocks:
            async for block in blocks:
                await self._block(file.region, manifest.sequence, block)

    async def _block(self, region: str, sequence: int, block: Sequence[dict[str, Any]]) -> None:
        wanted = await asyncio.to_thread(self._wanted, region, sequence, block)
        live = [entry for entry in wanted if not _is_over(entry)]
        self.report.expired += len(wanted) - len(live)
        for at in range(0, len(live), _AT_ONCE):
            some = live[at : at + _AT_ONCE]
            await self._throttle.spend(len(some), sum(len(entry.value) for entry in some))
            await (self._compare if self._selection.dry_run else self._store)(region, some)
        self._progress(len(wanted))

    def _wanted(
        self, region: str, sequence: int, block: Sequence[dict[str, Any]]
    ) -> list[Exported]:
        """What of a block was there at the wanted time, as it is to be stored now."""
        matches, wall = self._selection.matches, self._clock.wall()
        records = [record for record in block if matches(record["key"])]
        if self._index is not None:
            hashes = [key_hash(region, record["key"]) for record in records]
            known = self._index.find(hashes)
            records = [
                record
                for record, hashed in zip(records, hashes, strict=True)
                if (row := known.get(hashed)) is not None
                and row.sequence == sequence
                and row.version == record["version"]
            ]
        return [self._entry(record, wall) for record in _each_key_once(records)]

    def _entry(self, record: Mapping[str, Any], wall: float) -> Exported:
        left = record["expires_in"]
        if left is not None and self._selection.ttl == "absolute":
            # Where the clock was set back it has no more than it had.
            left = min(left, record["expires_at"] - wall)
        return Exported(
            key=record["key"],
            value=record["value"],
            version=record["version"],
            expires_in=left,
            tags=tuple(record["tags"]),
            kind=record["kind"],
        )

    async def _store(self, region: str, entries: Sequence[Exported]) -> None:
        outcomes = await self._backend.restore(region, entries, overwrite=self._selection.overwrite)
        stored = []
        for entry, outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, CacheError):
                self._failed(region, entry, outcome)
            elif outcome.applied:
                stored.append((entry, outcome))
        self.report.restored += len(stored)
        failed = sum(isinstance(outcome, CacheError) for outcome in outcomes)
        self.report.kept += len(entries) - len(stored) - failed
        self._told(region, stored)

    async def _compare(self, region: str, entries: Sequence[Exported]) -> None:
        """What ``_store`` would do, as things are now."""
        present = await self._backend.peek(region, [entry.key for entry in entries])
        overwrite = self._selection.overwrite
        for entry, record in zip(entries, present, strict=True):
            older = record is not None and record.version < entry.version
            if record is None or overwrite == "always" or (overwrite == "older" and older):
                self.report.restored += 1
            else:
                self.report.kept += 1

    def _failed(self, region: str, entry: Exported, error: CacheError) -> None:
        self.report.failed += 1
        if len(self.report.failures) < _MOST_FAILURES:
            self.report.failures.append(f"{region}: {entry.key!r}: {error}")


async def read_index(repository: Repository, manifest: Manifest, index: Index) -> None:
    """Let ``index`` know the rows of a backup."""
    for file in manifest.files:
        if file.kind == "index":
            async with aclosing(repository.blocks(manifest, file)) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(index.learn, block)


def _each_key_once(records: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The latest of those with the same key, which was read twice as it moved between servers."""
    latest: dict[str, dict[str, Any]] = {}
    for record in records:
        before = latest.get(record["key"])
        if before is None or before["version"] < record["version"]:
            latest[record["key"]] = record
    return records if len(latest) == len(records) else list(latest.values())


def _is_over(entry: Exported) -> bool:
    return entry.expires_in is not None and entry.expires_in <= 0
