"""A memory backend as it would be across a network: each call takes time, and may not arrive.

``Twin`` fulfils the ``Backend`` protocol around a ``MemoryBackend``. Before and after each call it
awaits a *hook* with the name of the point (``"before-fill"``, ``"after-claim"`` ...): the hook
delays, fails or remembers. A claim whose answer was lost, or that could not be given back, is ended
by its lease, as a server would do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

from clusterdb.cache import BackendUnavailable, CacheError
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.claims import Claim
from clusterdb.cache.clock import Clock
from clusterdb.cache.protocols import (
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Follower,
    Observer,
    Put,
    Written,
)
from clusterdb.cache.settings import RegionSettings
from clusterdb.cache.table import Table
from clusterdb.cache.types import Record, Version

__all__ = ["Hook", "Outage", "Twin"]

R = TypeVar("R")

Hook: TypeAlias = Callable[[str], Awaitable[None]]
"""Told of each point that a call comes to."""


class Twin:
    """``near``: hits are answered by the table in process, as the memory backend does it."""

    kind = "twin"

    def __init__(self, clock: Clock, hook: Hook, *, near: bool = False, lease: float = 0.05):
        self.inner = MemoryBackend(clock)
        self.near = near
        self.lease = lease
        self._hook = hook

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.inner.capabilities - {"immediate"}

    async def _call(self, name: str, call: Awaitable[R]) -> R:
        try:
            await self._hook(f"before-{name}")
        except BaseException:
            call.close()  # type: ignore[attr-defined]
            raise
        answer = await call
        await self._hook(f"after-{name}")
        return answer

    # -- life

    async def open(self) -> None:
        await self._call("open", self.inner.open())

    async def aclose(self) -> None:
        await self.inner.aclose()

    @property
    def inline(self) -> bool:
        return self.inner.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self.inner.configure(regions)

    def table(self, region: str) -> Table | None:
        return self.inner.table(region) if self.near else None

    def observe(self, observer: Observer | None) -> None:
        self.inner.observe(observer)

    def order(self, versions: Iterator[Version]) -> bool:
        return self.inner.order(versions)

    def follow(self, follower: Follower | None) -> None:
        self.inner.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self.inner.fork(moment)

    # -- entries

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        return await self._call("read", self.inner.read(region, keys, stale=stale, brief=brief))

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        return await self._call("peek", self.inner.peek(region, keys, stale=stale))

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self.inner.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self.inner.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self.inner.drop_near(region, keys)

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        return await self._call("write", self.inner.write(region, changes))

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        return await self._call("commit", self.inner.commit(region, checks, changes))

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        return await self._call("invalidate-tags", self.inner.invalidate_tags(tags))

    def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        return self.inner.scan(region, glob, batch_size, dead=dead)

    async def clear(self, regions: Sequence[str]) -> int:
        return await self._call("clear", self.inner.clear(regions))

    async def describe(self) -> BackendInfo:
        return await self._call("describe", self.inner.describe())

    # -- claims

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        return await self.inner.fence(region, keys, lease)

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        await self._hook("before-claim")
        answers = await self.inner.claim(region, keys, tags, lease)
        try:
            await self._hook("after-claim")
        except BaseException:
            self._expire(region, [answer for answer in answers if isinstance(answer, Claim)])
            raise
        return answers

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        await self._call("extend", self.inner.extend(region, claims, tags))

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        return await self._call("fill", self.inner.fill(region, fills))

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        try:
            await self._call("release", self.inner.release(region, claims))
        except BaseException:
            self._expire(region, claims)
            raise

    def _expire(self, region: str, claims: Sequence[Claim]) -> None:
        table: Any = self.inner.table(region)
        asyncio.get_running_loop().call_later(self.lease, table.release, claims)


class Outage:
    """A hook: while ``down``, each call that one of ``points`` is a part of fails."""

    def __init__(self, *points: str) -> None:
        self.points = points or ("before",)
        self.down = False
        self.refused = 0

    async def __call__(self, point: str) -> None:
        if self.down and any(part in point for part in self.points):
            self.refused += 1
            raise BackendUnavailable(f"the twin is down ({point})")
