"""A cache that keeps nothing for a while, and a count of what a piece of code read.

Neither changes the hit path: ``disabled`` puts another backend in place of the cache's own, which
offers no table to answer hits from; ``recorded`` compares the counters before and after.
"""
# ruff: noqa: SLF001 - it reaches into the cache on purpose

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from ..backends.memory import MemoryBackend
from ..claims import Claim
from ..errors import CacheError
from ..forwarding import ForwardingBackend
from ..manager import Cache
from ..protocols import (
    Backend,
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Exported,
    Follower,
    Observer,
    Overwrite,
    Put,
    Written,
)
from ..runtime import Runtime
from ..settings import RegionSettings
from ..stats import CacheStats
from ..sync import SyncCache, drive
from ..table import Table
from ..types import Record, RemovalCause, Version

__all__ = ["Reads", "disabled", "recorded"]


@contextmanager
def disabled(cache: Cache | SyncCache) -> Iterator[None]:
    """Until the block ends every read of ``cache`` misses and every load runs its loader; what is
    stored is dropped at once, and what is written or invalidated is gone from the cache, too.

    Callers that ask for one key at the same moment still share a load. Loads must end before the
    block does.
    """
    runtime = _runtime(cache)
    kept, loads = runtime.backend, runtime._loads
    backend = _Forgetful(kept, MemoryBackend(runtime.clock))
    backend.configure({name: state.settings for name, state in runtime.states.items()})
    _put_in_place(runtime, backend)
    runtime._loads = None
    try:
        yield
    finally:
        _put_in_place(runtime, kept)
        runtime._loads = loads


def _put_in_place(runtime: Runtime, backend: Backend) -> None:
    runtime.backend = backend
    for name, state in runtime.states.items():
        state.apply(state.settings, backend.table(name), encodes=runtime.encodes_in(state.settings))
        if runtime.closed:
            state.close()


def _runtime(cache: Cache | SyncCache) -> Runtime:
    return cache.access.runtime if isinstance(cache, Cache) else cache.runtime


class _Forgetful(ForwardingBackend):
    """Does every operation on an empty backend and removes its outcome at once; what happens to a
    key also removes it from the backend that is kept.
    """

    def __init__(self, kept: Backend, empty: MemoryBackend) -> None:
        super().__init__(empty)
        self._kept = kept

    @property
    def kind(self) -> str:
        return self._kept.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._kept.capabilities - {"near"}

    async def open(self) -> None:
        await self._kept.open()

    async def aclose(self) -> None:
        await self._kept.aclose()

    @property
    def inline(self) -> bool:
        return self._kept.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._kept.configure(regions)
        super().configure(regions)

    def table(self, region: str) -> Table | None:  # noqa: ARG002 - the contract's
        return None

    def observe(self, observer: Observer | None) -> None:
        self._kept.observe(observer)

    def order(self, versions: Iterator[Version]) -> bool:
        return self._kept.order(versions)

    def follow(self, follower: Follower | None) -> None:
        self._kept.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._kept.fork(moment)
        super().fork(moment)

    def keep(self, region: str, record: Record, value: object) -> None:
        """Nothing is kept, near or far."""

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._kept.drop_near(region, keys)

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        outcomes: list[Written | CacheError] = []
        for change in changes:
            outcomes += await super().write(region, [change])
            await self._forget(region, [change.key])
        return outcomes

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        committed = await super().commit(region, checks, changes)
        if committed is not None:
            await self._forget(region, [change.key for change in changes])
        return committed

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        await self._forget(region, keys)
        return await super().fence(region, keys, lease)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        outcomes = await super().fill(region, fills)
        await self._forget(region, [put.key for _, put in fills])
        return outcomes

    async def restore(
        self, region: str, entries: Sequence[Exported], *, overwrite: Overwrite = "older"
    ) -> list[Written | CacheError]:
        outcomes = await super().restore(region, entries, overwrite=overwrite)
        await self._forget(region, [entry.key for entry in entries])
        return outcomes

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        await self._kept.invalidate_tags(tags)
        return await super().invalidate_tags(tags)

    async def clear(self, regions: Sequence[str]) -> int:
        await self._kept.clear(regions)
        return await super().clear(regions)

    async def describe(self) -> BackendInfo:
        return await self._kept.describe()

    async def _forget(self, region: str, keys: Sequence[str]) -> None:
        drops = [Drop(key, RemovalCause.INVALIDATED) for key in keys]
        await self._kept.write(region, drops)
        await super().write(region, drops)


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: ``hits`` and ``stale_hits`` by tier, ``misses`` that no tier could answer, and
    ``loads``, the runs of loaders.
    """

    hits: dict[str, int]
    stale_hits: dict[str, int]
    misses: int
    loads: int


class recorded:  # noqa: N801 - reads like the other context managers
    """Counts what is read between entering and leaving: ``with recorded(cache) as record:``, inside
    an event loop ``async with``. Afterwards ``record.total`` and ``record.regions`` have the
    :class:`Reads`. Everybody who uses the cache meanwhile is counted.
    """

    def __init__(self, cache: Cache | SyncCache) -> None:
        self._cache = cache.face if isinstance(cache, SyncCache) else cache
        self._before: CacheStats | None = None
        self._regions: dict[str, Reads] | None = None

    @property
    def regions(self) -> dict[str, Reads]:
        """What was read from each region. Raises RuntimeError before the end of the block."""
        if self._regions is None:
            raise RuntimeError("the record is complete when its block has ended")
        return self._regions

    @property
    def total(self) -> Reads:
        """What was read from all regions."""
        parts = list(self.regions.values())
        return Reads(
            hits=_added([part.hits for part in parts]),
            stale_hits=_added([part.stale_hits for part in parts]),
            misses=sum([part.misses for part in parts]),
            loads=sum([part.loads for part in parts]),
        )

    async def __aenter__(self) -> Self:
        self._before = await self._cache.get_statistics()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._regions = _difference(self._before, await self._cache.get_statistics())

    def __enter__(self) -> Self:
        return drive(self._cache.access.runtime, self.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        drive(self._cache.access.runtime, self.__aexit__(kind, error, trace))


def _difference(before: CacheStats | None, after: CacheStats) -> dict[str, Reads]:
    tier = after.backend
    found: dict[str, Reads] = {}
    for name, now in after.regions.items():
        then: Any = None if before is None else before.regions.get(name)
        counts = {
            field: getattr(now, field) - (0 if then is None else getattr(then, field))
            for field in ("hits", "stale_hits", "misses", "loads")
        }
        found[name] = Reads(
            hits={tier: counts["hits"]},
            stale_hits={tier: counts["stale_hits"]},
            misses=counts["misses"],
            loads=counts["loads"],
        )
    return found


def _added(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for part in parts:
        for tier, count in part.items():
            total[tier] = total.get(tier, 0) + count
    return total
