"""What applies to one region, once its own settings and the cache's defaults are put together."""

from __future__ import annotations

from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import UNSET

from .codec import Codec, RegionCodec, region_codec
from .config import CacheConfig, CacheRegion, LoadConfig
from .units import ByteSize
from .weigh import Weigher

__all__ = ["DEFAULT_REGION", "RegionSettings", "inactive_settings", "resolve_region"]

DEFAULT_REGION = "default"
"""The region that the operations of the cache itself use."""


class RegionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One region's effective settings. Times are in seconds; ``None`` is no limit.

    ``policy`` is a name in :data:`clusterdb.cache.policy.POLICIES`. ``codec`` is there where the
    backend encodes.
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
    codec: RegionCodec | None


def resolve_region(
    config: CacheConfig,
    region: CacheRegion,
    weigher: Weigher | None,
    *,
    encodes: bool = False,
    codec: Codec | None = None,
) -> RegionSettings:
    """A region that states no policy of its own has the limits of ``config.policy``. ``encodes``:
    values become bytes on their way to its backend, by ``codec`` where a user gave one.
    """
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
        codec=_codec(config, region, codec) if encodes else None,
    )


def _codec(config: CacheConfig, region: CacheRegion, own: Codec | None) -> RegionCodec:
    return region_codec(region.name, config.serialization, config.policy.compression, own)


def inactive_settings(config: CacheConfig, *, encodes: bool) -> dict[str, str]:
    """The settings of ``config`` that are checked and kept, and not acted on, each with why."""
    known = dict.fromkeys(_LATER, "not acted on yet")
    if not encodes:
        kind = config.backend.__struct_config__.tag
        known |= dict.fromkeys(_ENCODING, f"without effect: the {kind} backend keeps objects")
    return {
        name: reason
        for name, reason in known.items()
        if attrgetter(name)(config) != attrgetter(name)(_DEFAULTS)
    }


_DEFAULTS = CacheConfig()
_ENCODING = ("policy.compression", "serialization")
_LATER = (
    "partitioning",
    "monitoring",
    "coherence",
    "invalidation",
    "maintenance",
    "backup",
    "metrics",
    "tracing",
)
