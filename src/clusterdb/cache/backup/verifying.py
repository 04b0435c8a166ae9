"""Showing that a backup can be restored, before it has to be.

Every block of every file of the chain is read back, opened, and compared with what the manifests
say; then some entries of each region are restored into a backend made for it, and read there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec

from ..errors import BackupCorrupt, CacheError, TypeRequired
from ..protocols import Backend, Exported
from .creating import Progress
from .manifest import BackupFile, Manifest
from .repository import Repository

__all__ = ["Verification", "VerifyReport"]

_SAMPLE: Final = 100
"""So many entries of each region are restored for a trial."""


class VerifyReport(msgspec.Struct, kw_only=True):
    """What was found: nothing in ``problems`` if the backup is good. ``sampled`` entries were
    restored for a trial and read back.
    """

    backup: str
    chain: tuple[str, ...] = ()
    files: int = 0
    records: int = 0
    size: int = 0
    sampled: int = 0
    problems: list[str] = []

    @property
    def good(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems


class Verification:
    """One look at ``chain``. ``scratch`` makes an empty backend with the regions of the cache,
    opened, in which nothing is kept.
    """

    def __init__(
        self,
        repository: Repository,
        chain: Sequence[Manifest],
        scratch: Callable[[], Backend],
        regions: Sequence[str],
        progress: Progress,
    ) -> None:
        self._repository, self._chain, self._progress = repository, chain, progress
        self._scratch, self._regions = scratch, regions
        self._samples: dict[str, list[Exported]] = {}
        point = chain[-1]
        self.report = VerifyReport(backup=point.id, chain=point.chain)

    async def run(self) -> VerifyReport:
        """Read everything. A damaged file is a problem, and the others are read all the same."""
        for manifest in self._chain:
            for file in manifest.files:
                try:
                    await self._file(manifest, file)
                except BackupCorrupt as error:
                    self.report.problems.append(str(error))
        await self._try()
        return self.report

    async def _file(self, manifest: Manifest, file: BackupFile) -> None:
        async with aclosing(self._repository.blocks(manifest, file)) as blocks:
            async for block in blocks:
                self.report.records += len(block)
                if file.kind == "entries":
                    self._sample(file.region, block)
                    self._progress(len(block))
        self.report.files += 1
        self.report.size += file.size

    def _sample(self, region: str, block: Sequence[dict[str, Any]]) -> None:
        chosen = self._samples.setdefault(region, [])
        for record in block[: _SAMPLE - len(chosen)]:
            chosen.append(
                Exported(
                    key=record["key"],
                    value=record["value"],
                    version=record["version"],
                    tags=tuple(record["tags"]),
                    kind=record["kind"],
                )
            )

    async def _try(self) -> None:
        """Restore the samples of the regions there are, and read them."""
        backend = self._scratch()
        await backend.open()
        try:
            for region, entries in self._samples.items():
                if region in self._regions and entries:
                    await self._try_region(backend, region, entries)
        finally:
            await backend.aclose()

    async def _try_region(self, backend: Backend, region: str, entries: Sequence[Exported]) -> None:
        keys = [entry.key for entry in entries]
        outcomes = await backend.restore(region, entries, overwrite="always")
        found = await backend.peek(region, keys)
        for key, outcome, record in zip(keys, outcomes, found, strict=True):
            if isinstance(outcome, TypeRequired):
                self.report.sampled += 1  # it was opened: only its class is not known here
            elif isinstance(outcome, CacheError):
                self.report.problems.append(f"{region}: {key!r} can't be restored: {outcome}")
            elif record is None or isinstance(record.value, CacheError):
                self.report.problems.append(f"{region}: {key!r} was restored, and can't be read")
            else:
                self.report.sampled += 1
