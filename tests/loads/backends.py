"""A memory backend as it would be across a network: each call takes time, and may not arrive.

``Twin`` fulfils the ``Backend`` protocol around a ``MemoryBackend``. Before and after each call it
awaits a *hook* with the name of the point (``"before-fill"``, ``"after-claim"`` ...): the hook
delays, fails or remembers. A claim whose answer was lost, or that could not be given back, is ended
by its lease, as a server would do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

from clusterdb.cache import BackendUnavailable
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.claims import Claim
from clusterdb.cache.clock import Clock
from clusterdb.cache.forwarding import ForwardingBackend
from clusterdb.cache.protocols import Capability
from clusterdb.cache.table import Table
from clusterdb.cache.types import Record

__all__ = ["Hook", "Outage", "Twin"]

P = ParamSpec("P")
R = TypeVar("R")

Hook: TypeAlias = Callable[[str], Awaitable[None]]
"""Told of each point that a call comes to."""


class Twin(ForwardingBackend):
    """``near``: hits are answered by the table in process, as the memory backend does it."""

    kind = "twin"

    def __init__(self, clock: Clock, hook: Hook, *, near: bool = False, lease: float = 0.05):
        self.inner = MemoryBackend(clock)
        super().__init__(self.inner)
        self.near = near
        self.lease = lease
        self._hook = hook

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.inner.capabilities - {"immediate"}

    def table(self, region: str) -> Table | None:
        return self.inner.table(region) if self.near else None

    async def _call(
        self,
        operation: str,
        region: str,
        count: int,
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        name = operation.replace("_", "-")
        await self._hook(f"before-{name}")
        answer = await call(*arguments, **options)
        await self._hook(f"after-{name}")
        return answer

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

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        try:
            await super().release(region, claims)
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
