"""What applies to one region, once its own settings and the cache's defaults are put together."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import UNSET

from .codec import Codec, RegionCodec, region_codec
from .config import Admission, CacheCoherence, CacheConfig, CacheRegion, LoadConfig, Redis
from .policy import kept_order
from .units import ByteSize
from .weigh import Weigher

__all__ = [
    "DEFAULT_REGION",
    "RegionSettings",
    "inactive_settings",
    "kept_order_problems",
    "resolve_region",
]

DEFAULT_REGION = "default"
"""The region that the operations of the cache itself use."""


class RegionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One region's effective settings. Times are in seconds; ``None`` is no limit.

    ``policy`` is a name in :data:`clusterdb.cache.policy.POLICIES`. ``codec`` is there where the
    backend encodes. ``own_limits``: the limits are the region's own, not those of the cache.
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
    own_limits: bool = False
    admission: Admission = Admission()

    @property
    def weighs(self) -> bool:
        """Whether a limit is in weights."""
        return self.max_weight is not None or self.admission.max_entry_size is not None

    instant_clear: bool = False


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
        own_limits=region.eviction is not None and limits != type(limits)(),
        admission=limits.admission or Admission(),
        instant_clear=region.instant_clear,
    )


def _codec(config: CacheConfig, region: CacheRegion, own: Codec | None) -> RegionCodec:
    return region_codec(region.name, config.serialization, config.policy.compression, own)


def kept_order_problems(backend: str, regions: Iterable[RegionSettings]) -> list[str]:
    """Sentences about the policies that a backend outside of this process lacks; the default, which
    promises no order, needs none.
    """
    return [
        f"region {each.name}: the {backend} backend has no policy {each.policy} and evicts by "
        f"{kept_order(each.policy)}: give the region one of adaptive, lru, fifo, lfu"
        for each in regions
        if each.own_limits and each.policy not in ("adaptive", kept_order(each.policy))
    ]


def inactive_settings(config: CacheConfig, *, encodes: bool) -> dict[str, str]:
    """The settings of ``config`` that are checked and kept, and not acted on, each with why."""
    known = dict.fromkeys(_LATER, "not acted on yet")
    kind = config.backend.__struct_config__.tag
    if not encodes:
        known |= dict.fromkeys(_ENCODING, f"without effect: the {kind} backend keeps objects")
    if isinstance(config.backend, Redis):
        config = _without_what_redis_does(config)
    else:
        known["partitioning"] = f"without effect: the {kind} backend is in one place"
    return {
        name: reason
        for name, reason in known.items()
        if attrgetter(name)(config) != attrgetter(name)(_DEFAULTS)
    }


def _without_what_redis_does(config: CacheConfig) -> CacheConfig:
    """``config`` without what its Redis backend acts on, or tells of as a problem: placement and
    replication.
    """
    coherence = config.coherence
    if coherence is not None:
        coherence = msgspec.structs.replace(coherence, replication=None)
        coherence = None if coherence == CacheCoherence() else coherence
    return msgspec.structs.replace(config, coherence=coherence, partitioning=_DEFAULTS.partitioning)


_DEFAULTS = CacheConfig()
_ENCODING = ("policy.compression", "serialization")
_LATER = (
    "monitoring",
    "coherence",
    "invalidation",
    "maintenance",
    "backup",
    "metrics",
    "tracing",
)
