"""What applies to one region, once its own settings and the cache's defaults are put together."""

from __future__ import annotations

from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import UNSET

from .config import CacheConfig, CacheRegion, LoadConfig
from .units import ByteSize
from .weigh import Weigher

__all__ = ["DEFAULT_REGION", "RegionSettings", "inactive_settings", "resolve_region"]

DEFAULT_REGION = "default"
"""The region that the operations of the cache itself use."""


class RegionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One region's effective settings. Times are in seconds; ``None`` is no limit.

    ``policy`` is a name in :data:`clusterdb.cache.policy.POLICIES`.
    """

    name: str
    policy: str
    max_items: int | None
    max_weight: int | None
    ttl: float | None
    ttl_jitter: float
    grace: float
    isolation: Literal["share", "copy", "check"]
    on_unavailable: Literal["raise", "load", "miss"] | None
    loads: LoadConfig
    weigher: Weigher | None


def resolve_region(
    config: CacheConfig, region: CacheRegion, weigher: Weigher | None
) -> RegionSettings:
    """A region that states no policy of its own has the limits of ``config.policy``."""
    limits = region.eviction or config.policy.eviction
    return RegionSettings(
        name=region.name,
        policy=str(limits.__struct_config__.tag),
        max_items=limits.max_items,
        max_weight=None if limits.max_memory is None else ByteSize(limits.max_memory),
        ttl=config.ttl if region.ttl is UNSET else region.ttl,
        ttl_jitter=region.ttl_jitter,
        grace=region.grace,
        isolation=region.isolation,
        on_unavailable=region.on_unavailable,
        loads=region.loads,
        weigher=weigher,
    )


def inactive_settings(config: CacheConfig) -> list[str]:
    """The settings of ``config`` that this version checks and keeps, and does not act on yet."""
    return [name for name, default in _INACTIVE.items() if attrgetter(name)(config) != default]


_DEFAULTS = CacheConfig()
_INACTIVE = {
    name: attrgetter(name)(_DEFAULTS)
    for name in (
        "policy.compression",
        "serialization",
        "partitioning",
        "monitoring",
        "coherence",
        "invalidation",
        "maintenance",
        "backup",
        "metrics",
        "tracing",
    )
}
