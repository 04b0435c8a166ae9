"""Making a backup: every entry of every region, or what changed since the backup before.

The parts of a backend (its nodes) are read side by side. Each runs through one file at a time:
batches of entries to blocks, blocks to the place, so that memory holds a few batches whatever the
number of entries. The throttle is common to all. An incremental backup reads as much as a full one
does and stores what differs: by version alone nobody could tell an entry whose expiry was moved,
nor one of a process that counts its versions anew.

Nothing is there before the manifest is. Whoever fails removes what it wrote; after a kill the rest
is found by the next clean-up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from itertools import islice
from typing import Any, Final

import msgspec

from ..clock import Clock
from ..errors import CacheError
from ..protocols import Backend, Exported, NotExported
from .ahead import one_ahead
from .chains import HEARTBEAT
from .files import FileWriter
from .index import Index, IndexRow, row_of
from .manifest import BackupFile, Manifest, RegionCounts
from .objects import Upload
from .repository import Repository
from .throttle import Pace

__all__ = ["Creation", "Limits", "Progress"]

Progress = Callable[[int], object]
"""Told how many entries more are done."""

_BATCH: Final = 500
_INDEX_BLOCK: Final = 5_000
_MOST_PROBLEMS: Final = 100
_UNDO_TIMEOUT: Final = 30.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How many parts are read side by side, and after how many bytes a file ends."""

    parallel: int
    file_size: int


class _Tally:
    """What was seen of one region."""

    __slots__ = ("given", "stored", "unreadable")

    def __init__(self) -> None:
        self.given = self.stored = self.unreadable = 0


class Creation:
    """One backup on its way. ``before`` is the backup that it builds on, ``index`` knows that one's
    rows; ``about`` is the manifest as far as it is known.
    """

    def __init__(
        self,
        backend: Backend,
        repository: Repository,
        clock: Clock,
        about: Manifest,
        index: Index,
        *,
        limits: Limits,
        throttle: Pace,
        progress: Progress,
    ) -> None:
        self._backend, self._repository, self._clock = backend, repository, clock
        self._about, self._index = about, index
        self._limits, self._throttle, self._progress = limits, throttle, progress
        self._key = repository.keys.first
        self._files: list[BackupFile] = []
        self._numbers = iter(range(1, 1_000_000_000))
        self._tallies = {region: _Tally() for region in about.regions}
        self._problems: list[str] = []

    async def run(self) -> Manifest:
        """Make it. What was written is removed where that fails."""
        beating = asyncio.create_task(self._beat())
        try:
            await self._read_all()
            manifest = await self._conclude()
            await self._repository.complete(manifest, self._key)
        except BaseException:
            beating.cancel()
            await self._undo()
            raise
        finally:
            beating.cancel()
            await asyncio.wait({beating})
        return manifest

    async def _beat(self) -> None:
        """Show that somebody works on it. A beat that fails is followed by another."""
        while True:
            await asyncio.sleep(HEARTBEAT)
            with suppress(CacheError):
                await self._repository.still_running(self._about.id, b"{}")

    async def _undo(self) -> None:
        """Remove what was written, if that can be done soon: else it is left to the clean-up."""
        with suppress(CacheError, TimeoutError):
            async with asyncio.timeout(_UNDO_TIMEOUT):
                await self._repository.remove(self._about.id)

    # -- entries

    async def _read_all(self) -> None:
        gate = asyncio.Semaphore(self._limits.parallel)

        async def read(region: str, part: str) -> None:
            async with gate:
                await self._read_part(region, part)

        await all_of(
            read(region, part) for region in self._tallies for part in self._backend.parts(region)
        )

    async def _read_part(self, region: str, part: str) -> None:
        batches = one_ahead(self._backend.export(region, part=part, batch_size=_BATCH))
        async with aclosing(batches), aclosing(self._changed(region, batches)) as changed:
            while (first := await anext(changed, None)) is not None:
                name = f"{self._about.id}/entries-{next(self._numbers):05d}.avro"
                await self._write("entries", region, name, first, changed)

    async def _changed(
        self, region: str, batches: AsyncGenerator[list[Exported | NotExported], None]
    ) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
        """The records that the chain does not hold yet."""
        tally = self._tallies[region]
        async for batch in batches:
            wall = self._clock.wall()
            records = [_record(each, wall) for each in batch if isinstance(each, Exported)]
            for each in batch:
                if isinstance(each, NotExported):
                    self._note(region, each)
            await self._throttle.spend(len(batch), sum(len(each["value"]) for each in records))
            fresh = await asyncio.to_thread(self._compare, region, records)
            tally.given += len(records)
            tally.stored += len(fresh)
            self._progress(len(batch))
            if fresh:
                yield fresh

    def _compare(self, region: str, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The records that are not known; all are noted as being there."""
        rows = [row_of(region, record, self._about.sequence) for record in records]
        known = self._index.find([row.hash for row in rows]) if self._about.parent else {}
        fresh, there = [], []
        for record, row in zip(records, rows, strict=True):
            before = known.get(row.hash)
            if before is not None and before.same(row):
                there.append(before)
            else:
                there.append(row)
                fresh.append(record)
        self._index.add(there, known)
        return fresh

    def _note(self, region: str, problem: NotExported) -> None:
        self._tallies[region].unreadable += 1
        if len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(f"{region}: {problem.key!r}: {problem.error}")

    # -- files

    async def _write(
        self,
        kind: str,
        region: str,
        name: str,
        first: Sequence[Any],
        more: AsyncGenerator[Sequence[Any], None],
    ) -> None:
        """One file, until it is large enough or nothing more comes."""
        writer = FileWriter(name, kind, region, self._key, self._repository.keys.cipher)
        upload = await self._repository.upload(name)
        try:
            records: Sequence[Any] | None = first
            while records is not None:
                await upload.write(await asyncio.to_thread(writer.add, records))
                full = kind == "entries" and writer.size >= self._limits.file_size
                records = None if full else await anext(more, None)
            await _close(upload, writer)
        finally:
            await upload.abort()
        self._files.append(writer.describe())

    async def _conclude(self) -> Manifest:
        """Write the index, and say what the backup holds."""
        rows = self._index.rows()
        blocks = _blocks(rows)

        async def packed() -> AsyncGenerator[Sequence[Any], None]:
            while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                yield block

        name = f"{self._about.id}/index.avro"
        async with aclosing(packed()) as more:
            first: Sequence[Any] | None = await anext(more, None)
            await self._write("index", "", name, first or [], more)
        present = self._files[-1].records
        given = sum(tally.given for tally in self._tallies.values())
        return msgspec.structs.replace(
            self._about,
            finished=self._clock.wall(),
            regions={
                region: RegionCounts(
                    present=tally.given, stored=tally.stored, unreadable=tally.unreadable
                )
                for region, tally in self._tallies.items()
            },
            gone=self._index.gone,
            repeated=given - present,
            problems=tuple(self._problems),
            files=tuple(sorted(self._files, key=lambda each: each.name)),
        )


async def all_of(works: Iterable[Awaitable[None]]) -> None:
    """Do things side by side; the first that fails ends the others and is raised."""

    async def do(work: Awaitable[None]) -> None:
        await work

    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(do(work))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _close(upload: Upload, writer: FileWriter) -> None:
    await upload.write(writer.end())
    await upload.close()


def _record(entry: Exported, wall: float) -> dict[str, Any]:
    """An entry as a file has it."""
    left = entry.expires_in
    return {
        "key": entry.key,
        "value": entry.value,
        "version": entry.version,
        "expires_in": left,
        "expires_at": None if left is None else wall + left,
        "tags": entry.tags,
        "kind": entry.kind,
    }


def _blocks(rows: Iterator[IndexRow]) -> Iterator[list[dict[str, Any]]]:
    while block := [msgspec.structs.asdict(row) for row in islice(rows, _INDEX_BLOCK)]:
        yield block
