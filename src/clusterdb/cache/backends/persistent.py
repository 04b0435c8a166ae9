"""The memory backend with a file to persist to: warm after an orderly restart.

Closing writes what is alive into a snapshot; opening takes the snapshot and fills the tables with
it, in their order of eviction, with the lifetimes and tags that are left. See :mod:`.snapshot` for
why there is nothing to start from after a crash.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final, Literal

from msgspec.structs import replace

from ..clock import Clock
from ..codec import RegionCodec
from ..errors import CacheError, EncodeError, Undecodable
from ..protocols import BackendInfo, Capability, Put
from ..table import ordered
from ..types import Record
from .memory import MemoryBackend
from .objects import decoded, encoded
from .offloop import off_loop
from .snapshot import Saved, save, take

__all__ = ["PersistentMemoryBackend"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_AT_ONCE: Final = 1000


class PersistentMemoryBackend(MemoryBackend):
    """A cache in the memory of this process, saved to ``path`` when it is closed."""

    capabilities: ClassVar[frozenset[Capability]] = MemoryBackend.capabilities | {"persistent"}

    def __init__(
        self, clock: Clock, path: Path, budget: int | None = None, total: int | None = None
    ) -> None:
        super().__init__(clock, budget, total)
        self._clock = clock
        self._path: Path | None = path.expanduser().absolute()
        self._open = self._filled = False
        self._unsaved: dict[str, int] = {}
        self._problem = ""

    async def open(self) -> None:
        await super().open()
        self._open = True
        if self._path is None:
            return
        try:
            entries = await off_loop(take, self._path)
        except (Undecodable, OSError) as error:
            self._problem = f"started cold: {error}"
            _LOG.warning("cache started cold: %s", error)
            return
        if not self._filled:
            self._filled = True
            await self._fill(entries)

    async def aclose(self) -> None:
        was_open, self._open = self._open, False
        await super().aclose()
        if not was_open or self._path is None:
            return
        entries: list[Saved] = []
        for at, entry in enumerate(self._entries()):
            entries.append(entry)
            if not at % _AT_ONCE:
                await asyncio.sleep(0)
        for kind, count in self._unsaved.items():
            _LOG.warning(
                "%d values of %s were not saved: their type can't be told from bytes", count, kind
            )
        try:
            await off_loop(save, self._path, entries)
        except OSError as error:
            _LOG.warning(
                "cache not saved to %r, the next start is cold: %s", str(self._path), error
            )

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        super().fork(moment)
        if moment == "child":
            self._path = None  # the file is the parent's

    async def describe(self) -> BackendInfo:
        info = await super().describe()
        return replace(info, problems=(*info.problems, self._problem)) if self._problem else info

    # -- out

    def _entries(self) -> Iterator[Saved]:
        now = self._now()
        for region, table in self._tables.items():
            codec = self._codec(region)
            for record in ordered(table, now):
                try:
                    entry = self._saved(region, codec, record)
                except EncodeError as error:
                    self._missed(error.kind)
                else:
                    yield entry

    def _saved(self, region: str, codec: RegionCodec, record: Record) -> Saved:
        value, kind = encoded(codec, record.value)
        left = record.expires_in
        expires_at = None if left is None else self._clock.wall() + left
        tags = [(tag, 0) for tag in record.tags]
        version = record.version
        envelope = codec.seal(record.key, version, value, expires_at=expires_at, tags=tags)
        return Saved(region, kind, record.key, envelope)

    def _missed(self, kind: str) -> None:
        self._unsaved[kind] = self._unsaved.get(kind, 0) + 1

    # -- in

    async def _fill(self, entries: list[Saved]) -> None:
        wall, lost, homeless = self._clock.wall(), 0, 0
        for at, entry in enumerate(entries):
            if entry.region not in self._settings:
                homeless += 1
            else:
                put = self._put(entry, wall)
                if put is None:
                    lost += 1
                else:
                    await self.write(entry.region, [put])
            if not at % _AT_ONCE:
                await asyncio.sleep(0)
        if homeless:
            _LOG.warning(
                "%d saved entries were dropped: their regions are not in the configuration",
                homeless,
            )
        if lost:
            _LOG.warning("%d of %d saved entries expired or can't be read", lost, len(entries))

    def _put(self, entry: Saved, wall: float) -> Put | None:
        codec = self._codec(entry.region)
        try:
            sealed = codec.unseal(entry.key, entry.envelope)
            value = decoded(codec, sealed.encoded, entry.kind)
        except CacheError:
            return None
        ttl = None if sealed.expires_at is None else sealed.expires_at - wall
        if ttl is not None and ttl <= 0:
            return None
        return Put(entry.key, value, ttl, tuple([tag for tag, _ in sealed.tags]))

    def _codec(self, region: str) -> RegionCodec:
        codec = self._settings[region].codec
        assert codec is not None, "a backend that persists has codecs"
        return codec
