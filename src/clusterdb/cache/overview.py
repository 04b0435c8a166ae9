"""A cache as one sees it who looks from outside: its regions with their limits, and what its
backend says of itself, for all processes together where that counts for all.
"""

from __future__ import annotations

import msgspec

from .checking import copies_of
from .config import CacheCoherence
from .manager import Cache
from .members import this_process
from .protocols import BackendInfo

__all__ = ["NearTier", "Overview", "RegionLimits", "look_over"]


class RegionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A region's settings; ``ttl`` in seconds, ``max_weight`` in bytes, ``None``: no limit."""

    name: str
    policy: str
    ttl: float | None
    max_items: int | None
    max_weight: int | None


class NearTier(msgspec.Struct, frozen=True, kw_only=True):
    """How old an answer of the near tier may be, in seconds, and the level of consistency."""

    max_staleness: float
    consistency: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The cache and where it lives. ``version`` is that of the library; ``copies``: how many
    servers must have each write.
    """

    cache: str
    version: str
    near: NearTier | None
    copies: int
    regions: tuple[RegionLimits, ...]
    backend: BackendInfo


async def look_over(cache: Cache) -> Overview:
    """Look at a cache, which is started if it was not. One round trip a node."""
    await cache.start()
    runtime = cache.access.runtime
    info = await runtime.backend.describe()
    return Overview(
        cache=cache.config.name,
        version=this_process().version,
        near=_near(cache),
        copies=copies_of(runtime),
        regions=tuple([_limits(cache, name) for name in info.regions if name in cache.regions]),
        backend=info,
    )


def _near(cache: Cache) -> NearTier | None:
    settings = cache.access.state.settings
    if not cache.access.encodes or settings.near is None:
        return None
    coherence = cache.config.coherence or CacheCoherence()
    return NearTier(max_staleness=settings.max_staleness, consistency=coherence.consistency)


def _limits(cache: Cache, name: str) -> RegionLimits:
    settings = cache.region(name).access.state.settings
    return RegionLimits(
        name=name,
        policy=settings.policy,
        ttl=settings.ttl,
        max_items=settings.max_items,
        max_weight=None if settings.max_weight is None else int(settings.max_weight),
    )
