"""A backend with storages behind some of its regions: what the write modes are to the faces.

It stands in front of a cache's backend as a circuit breaker does. Regions without a mode pass
through. Of the others it answers as the mode says, and whoever asks sees one backend: what is
missing in the cache is read from storage, and what is changed is changed there.

| | write-through | write-around | write-behind | read-through |
|---|---|---|---|---|
| read, claim | cache, else storage | same | the newer of pending and cache, else storage | same |
| put, delete | commit, then cache | commit, then invalidate | intent, then cache | cache |
| conditions, touch, add, commit | in storage | same | same, pending flushed first | cache |
| invalidation, tags, clear | cache | cache | cache | cache |

What a loader gives (`fill`) is cached, and never written to storage.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from ..claims import Claim
from ..clock import Clock
from ..codec import region_codec
from ..config import (
    ReadThrough,
    SerializationConfig,
    StorageBackend,
    WriteAround,
    WriteBehind,
    WriteThrough,
)
from ..errors import CacheError, ConfigError, NoStorage, NotSupported
from ..forwarding import ForwardingBackend
from ..intents import Intents
from ..keys import matcher
from ..protocols import (
    Backend,
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Exported,
    Overwrite,
    Put,
    Written,
)
from ..rows import Storage
from ..settings import POSITIONS, RegionSettings, plain_region
from ..stats import StorageStats
from ..table import Table
from ..types import Record, RemovalCause
from .cached import Cached
from .plain import PlainWrites
from .reading import Reading
from .rows import opened
from .store import Store

__all__ = ["StoredBackend", "Stores", "no_storage"]


class Stores(Protocol):
    """Makes what stands behind a cache."""

    def storage(self, config: StorageBackend, origin: str) -> Storage:
        """A storage; ``origin`` is what others read of its changes."""
        ...

    def intents(self, mode: WriteBehind) -> Intents:
        """The place of what a mode writes behind."""
        ...


class StoredBackend(ForwardingBackend):
    """``backend`` with the storages that its regions' modes name."""

    def __init__(self, backend: Backend, clock: Clock, stores: Stores) -> None:
        super().__init__(backend)
        self._clock = clock
        self._made_by = stores
        self._stores: dict[StorageBackend, Store] = {}
        self._regions: dict[str, Store] = {}
        self._plain: dict[str, PlainWrites] = {}
        self._settings: dict[str, RegionSettings] = {}
        self._reading = Reading(backend, self._regions)
        self._cached = Cached(backend, self._reading)
        self._opened = False
        self._of_parent: list[Store] = []

    # -- life

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities - {"immediate"}

    @property
    def inline(self) -> bool:
        return False

    async def open(self) -> None:
        await self._backend.open()
        self._opened = True
        try:
            for store in self._stores.values():
                await store.open()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        if self._opened:
            self._opened = False
            for store in self._stores.values():
                await store.aclose()
        await self._backend.aclose()

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        for settings in regions.values() if self._opened else ():
            self._refuse_unopened(settings)
        self._backend.configure({**self._positions(), **regions})
        for name, settings in regions.items():
            self._settings[name] = settings
            self._add(settings)

    def _refuse_unopened(self, settings: RegionSettings) -> None:
        """Storages are opened with the cache: one that came later would stay closed."""
        mode = settings.mode
        store = None if mode is None else self._stores.get(mode.backend)
        if mode is not None and (store is None or not store.has(mode)):
            raise ConfigError(
                f"region {settings.name!r} can't have a mode that no region had when the cache was "
                f"started: build a new Cache with it, or take the mode of another region",
                path=f"regions.{settings.name}.mode",
            )

    def _add(self, settings: RegionSettings) -> None:
        if settings.mode is None:
            return
        wanted = settings.mode.backend
        store = self._stores.get(wanted)
        if store is None:
            origin = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
            storage = self._made_by.storage(wanted, origin)
            name, intents = storage_name(storage, wanted), self._made_by.intents
            store = Store(name, storage, origin, self._backend, self._clock, intents)
            self._stores[wanted] = store
        store.add(settings)
        self._regions[settings.name] = store
        if isinstance(settings.mode, WriteThrough | WriteAround):
            fenced = isinstance(settings.mode, WriteThrough)
            self._plain[settings.name] = PlainWrites(
                settings.name,
                store,
                store.shapes[settings.name],
                fenced=fenced,
                strict=settings.strong and fenced,
            )

    def _positions(self) -> dict[str, RegionSettings]:
        """The region in which relays keep how far they are, where the cache outlives them."""
        if not self._backend.capabilities & {"multi_process", "persistent"}:
            return {}
        codec = region_codec(POSITIONS, SerializationConfig(compression=False), None)
        return {POSITIONS: plain_region(POSITIONS, codec)}

    def table(self, region: str) -> Table | None:
        stored_as_bytes = "objects" in self._backend.capabilities and region in self._regions
        return None if stored_as_bytes else self._backend.table(region)

    def copies(self, region: str) -> Table | None:
        """The table of a region in this process, whether its hits are values or bytes."""
        return self._backend.table(region)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._backend.fork(moment)
        if moment == "child":
            self._opened = False
            self._of_parent += self._stores.values()  # to be closed by nobody here
            for store in self._stores.values():
                store.forked()
            self._stores.clear()
            self._regions.clear()
            self._plain.clear()
            for settings in self._settings.values():
                self._add(settings)

    # -- reading

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        records = await self._backend.read(
            region, keys, stale=stale, consistent=consistent, brief=brief
        )
        if region not in self._regions:
            return records
        return await self._reading.complete(region, keys, records, brief=brief)

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        records = await self._backend.peek(region, keys, stale=stale)
        if region not in self._regions:
            return records
        return await self._reading.complete(region, keys, records, fill=False)

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        records = self._backend.last_known(region, keys)
        return [None if record is None else opened(record) for record in records]

    def keep(self, region: str, record: Record, value: object) -> None:
        own = record.near if isinstance(record.near, Record) else record
        self._backend.keep(region, own, value)

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        store = None if dead else self._regions.get(region)
        seen: set[str] = set()
        async with aclosing(self._backend.scan(region, glob, batch_size, dead=dead)) as batches:
            async for batch in batches:
                if store is not None:
                    seen.update(batch)
                yield batch
        if store is None:
            return
        matches = matcher(glob)
        async with aclosing(store.storage.scan(region, batch_size)) as rows_found:
            async for rows in rows_found:
                yield [row.key for row in rows if row.key not in seen and matches(row.key)]

    # -- writing

    def write(
        self, region: str, changes: Sequence[Change]
    ) -> Coroutine[Any, Any, list[Written | CacheError]]:
        plain = self._plain.get(region)
        if plain is not None and len(changes) == 1:
            change = changes[0]
            if type(change) is Put:
                return plain.write(change)
        return self._write(region, changes)

    async def _write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        store = self._regions.get(region)
        if store is None or all(_of_the_cache(change) for change in changes):
            return await self._backend.write(region, changes)
        mode = self._settings[region].mode
        if isinstance(mode, ReadThrough):
            return await self._cached.write(region, changes)
        if isinstance(mode, WriteBehind) and all(_unconditional(change) for change in changes):
            plain = [change for change in changes if isinstance(change, Put | Drop)]
            written: list[Written | CacheError] = []
            written += await store.behinds[region].write(region, plain)
            return written
        return await self.write_through(region, changes)

    async def write_through(
        self,
        region: str,
        changes: Sequence[Change],
        *,
        strict: bool | None = None,
        wait: bool = True,
    ) -> list[Written | CacheError]:
        """Write to storage and to the cache, whatever the mode. ``strict``: fail where the cache
        can't be fenced; by default as the region's level says. Without ``wait`` the changes are
        queued only. Raises :class:`NoStorage` for a region without one.
        """
        store = self._regions.get(region)
        if store is None:
            raise no_storage(region)
        settings = self._settings[region]
        if region in store.behinds:
            if not wait and all(_unconditional(change) for change in changes):
                return await self.write(region, changes)
            await store.behinds[region].settle([(region, change.key) for change in changes])
        fenced = not isinstance(settings.mode, WriteAround)
        strict = settings.strong if strict is None else strict
        return await store.through.write(
            region, changes, fenced=fenced, strict=strict and fenced, wait=wait
        )

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        store, mode = self._regions.get(region), self._settings[region].mode
        if store is None:
            return await self._backend.commit(region, checks, changes)
        if all(_of_the_cache(change) for change in changes):
            return await self._cached.drop(region, changes)
        if isinstance(mode, ReadThrough):
            return await self._cached.commit(region, checks, changes)
        if region in store.behinds:
            keys = [*[key for key, _ in checks], *[change.key for change in changes]]
            await store.behinds[region].settle([(region, key) for key in keys])
        strict = self._settings[region].strong
        return await store.through.commit(region, checks, changes, strict=strict)

    async def restore(
        self, region: str, entries: Sequence[Exported], *, overwrite: Overwrite = "older"
    ) -> list[Written | CacheError]:
        if region not in self._regions:
            return await self._backend.restore(region, entries, overwrite=overwrite)
        return [_older_than_storage(region, entry.key) for entry in entries]

    # -- claims

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        answers = await self._backend.claim(region, keys, tags, lease)
        if region not in self._regions:
            return answers
        return await self._reading.claimed(region, keys, answers)

    # -- figures

    async def describe(self) -> BackendInfo:
        info = await self._backend.describe()
        regions = {name: seen for name, seen in info.regions.items() if name != POSITIONS}
        problems = [problem for store in self._stores.values() for problem in store.problems]
        strong = [name for name in self._regions if self._settings[name].strong]
        problems += [
            f"region {strong[0]}: {server.name} may evict the fence of a write ({server.policy}), "
            f"and a strong read then gives the row before it until the relay has heard of it: set "
            f"noeviction or a volatile policy"
            for server in info.servers
            if strong and server.max_memory and server.policy.startswith("allkeys")
        ]
        problems += [
            f"region {name}: durability is replicated, but one copy is all that "
            f"coherence.replication asks for: what is accepted is lost with that server. Set mode "
            f"synchronous and a factor of 2 or more, or durability: journal"
            for name in self._regions
            if self._lies_on_one_server(self._settings[name])
        ]
        return replace(info, regions=regions, problems=(*info.problems, *problems))

    def _lies_on_one_server(self, settings: RegionSettings) -> bool:
        mode = settings.mode
        replicated = isinstance(mode, WriteBehind) and mode.durability == "replicated"
        return replicated and settings.copies == 1

    async def storages(self) -> dict[str, StorageStats]:
        """Figures of each storage, by kind and a hash of its configuration."""
        return {store.name: await store.stats() for store in self._stores.values()}

    @property
    def stores(self) -> list[Store]:
        """The storages in use, for those who look after them."""
        return list(self._stores.values())


def storage_name(storage: Storage, config: StorageBackend) -> str:
    """What a storage is called in statistics: its kind, and a hash of its configuration."""
    known = hashlib.blake2b(repr(config).encode(), digest_size=4).hexdigest()
    return f"{storage.kind}:{known}"


def no_storage(region: str) -> NoStorage:
    """The error of a write-through where there is nothing to write to."""
    return NoStorage(
        f"region {region!r} has no storage behind it to write through to: give it a mode, "
        f"coherence=CacheCoherence(mode=WriteThrough(backend=SQLite(path=...)))"
    )


def _older_than_storage(region: str, key: str) -> CacheError:
    """The error of a restore where storage has the truth, which may have gone on since."""
    return NotSupported(
        f"{key!r} was not restored: region {region!r} has a storage behind it, whose row may be "
        f"newer than the copy; restore the storage, and fill the cache from it: cache.warm(keys)"
    )


def _of_the_cache(change: Change) -> bool:
    """Whether a change is of cached copies only."""
    return type(change) is Drop and change.cause is not RemovalCause.DELETED


def _unconditional(change: Change) -> bool:
    if isinstance(change, Put):
        return change.when == "always" and not change.keep_ttl
    return isinstance(change, Drop)
