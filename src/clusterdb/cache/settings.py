"""What applies to one region, once its own settings and the cache's defaults are put together."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Literal

import msgspec
from msgspec import UNSET

from .codec import Codec, RegionCodec, region_codec
from .config import (
    Admission,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    CoherenceMode,
    EvictionPolicy,
    LoadConfig,
    Memory,
    Redis,
)
from .policy import kept_order
from .units import ByteSize
from .weigh import Weigher

__all__ = [
    "DEFAULT_REGION",
    "MAINTENANCE",
    "POSITIONS",
    "NearSettings",
    "RegionSettings",
    "copies_of",
    "inactive_settings",
    "kept_order_problems",
    "plain_region",
    "resolve_region",
]

POSITIONS = "#storage"
"""The region in which relays keep how far they are: no region of a user can have that name."""

MAINTENANCE = "#maintenance"
"""The region in which maintenance keeps what its processes agree on."""

DEFAULT_REGION = "default"
"""The region that the operations of the cache itself use."""


_STALENESS = {"bounded": 1.0, "eventual": 5.0}
"""How old a near hit may be at most, in seconds, where nothing else is said."""


class NearSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of one region is kept near: at most so many items and stored bytes (``None``: no limit),
    by which policy, and for how many seconds past the moment up to which all changes are known.
    """

    max_items: int | None
    max_weight: int | None
    max_staleness: float
    policy: str = "lru"


class RegionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One region's effective settings. Times are in seconds; ``None`` is no limit.

    ``policy`` is a name in :data:`clusterdb.cache.policy.POLICIES`. ``codec`` is there where the
    backend encodes. ``own_limits``: the limits are the region's own, not those of the cache.
    ``strong``: every read is of the latest completed write; else of one that was current at most
    ``max_staleness`` seconds ago. ``mode`` is how its writes reach storage. ``near`` is ``None``
    where nothing is kept near. ``confirm`` is how a primary shows that nobody took its place,
    ``copies`` how many servers must have a write, ``replicas``: they may answer reads.
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
    def internal(self) -> bool:
        """Whether it is a region of our own, which no user can name: what holds for the whole cache
        is read off the others.
        """
        return self.name.startswith("#")

    @property
    def weighs(self) -> bool:
        """Whether a limit is in weights."""
        return self.max_weight is not None or self.admission.max_entry_size is not None

    instant_clear: bool = False
    strong: bool = False
    max_staleness: float = 1.0
    near: NearSettings | None = None
    mode: CoherenceMode | None = None
    confirm: Literal["replicas", "quorum", "none"] = "replicas"
    copies: int = 1
    replicas: bool = False


def plain_region(name: str, codec: RegionCodec | None) -> RegionSettings:
    """A region without limits and expiry, of which nothing is kept near."""
    return RegionSettings(
        name=name,
        policy="lru",
        max_items=None,
        max_weight=None,
        ttl=None,
        ttl_jitter=0.0,
        grace=0.0,
        isolation="share",
        on_unavailable=None,
        loads=LoadConfig(),
        weigher=None,
        codec=codec,
    )


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
    coherence, mode = config.coherence or CacheCoherence(), config.mode_of(region)
    encodes = encodes or mode is not None
    bound = _staleness(config, region, coherence)
    return RegionSettings(
        name=region.name,
        policy=str(limits.__struct_config__.tag),
        max_items=limits.max_items,
        max_weight=_max_weight(config, limits),
        ttl=config.ttl if region.ttl is UNSET else region.ttl,
        ttl_jitter=region.ttl_jitter,
        grace=region.kept,
        isolation=region.isolation,
        on_unavailable=region.on_unavailable,
        loads=region.loads,
        weigher=None if mode is not None else weigher,
        codec=_codec(config, region, codec) if encodes else None,
        own_limits=region.eviction is not None and limits != type(limits)(),
        admission=limits.admission or Admission(),
        instant_clear=region.instant_clear,
        strong=coherence.consistency == "strong",
        mode=mode,
        max_staleness=bound,
        near=None if coherence.consistency == "strong" else _near(config, region, bound),
        confirm=coherence.confirm,
        copies=copies_of(coherence),
        replicas=_reads_replicas(config, coherence),
    )


def _max_weight(config: CacheConfig, limits: EvictionPolicy) -> ByteSize | None:
    """What the region says, within what all regions have together."""
    backend, own = config.backend, limits.max_memory
    total = backend.max_total_memory if isinstance(backend, Memory) else None
    least = min([each for each in (own, total) if each is not None], default=None)
    return None if least is None else ByteSize(least)


def _staleness(config: CacheConfig, region: CacheRegion, coherence: CacheCoherence) -> float:
    """What the region says, else what its backend says, else what the level is worth."""
    own, backend = region.near.max_staleness, config.backend
    if own is None and not isinstance(backend, Memory):
        own = backend.max_staleness
    return _STALENESS.get(coherence.consistency, 1.0) if own is None else own


def _reads_replicas(config: CacheConfig, coherence: CacheCoherence) -> bool:
    backend = config.backend
    eventual = coherence.consistency == "eventual"
    return eventual and isinstance(backend, Redis) and backend.read_replicas


def _near(config: CacheConfig, region: CacheRegion, bound: float) -> NearSettings | None:
    """What the region says, else what its backend says."""
    backend, own = config.backend, region.near
    if isinstance(backend, Memory):
        return None
    usual = backend.near and not _reads_replicas(config, config.coherence or CacheCoherence())
    if not (usual if own.enabled is None else own.enabled):
        return None
    size = backend.near_size if own.max_memory is None else own.max_memory
    return NearSettings(
        max_items=own.max_items, max_weight=size, max_staleness=bound, policy=own.policy
    )


def copies_of(coherence: CacheCoherence) -> int:
    """How many servers must have a write before it counts, the primary among them."""
    wanted = coherence.replication
    if wanted is None or wanted.mode == "asynchronous" or wanted.consistency == "one":
        return 1
    return wanted.factor if wanted.consistency == "all" else wanted.factor // 2 + 1


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
    """The settings of ``config`` that have no effect where they stand, each with why."""
    known: dict[str, str] = {}
    kind = config.backend.__struct_config__.tag
    stored = config.mode_of(None) or any(config.mode_of(region) for region in config.regions)
    if not encodes and not stored:
        known |= dict.fromkeys(_ENCODING, f"without effect: the {kind} backend keeps objects")
    if not isinstance(config.backend, Redis):
        here = f"without effect: the {kind} backend is in one place"
        known |= {"partitioning": here, "coherence.replication": here}
    return {
        name: reason
        for name, reason in known.items()
        if _setting(config, name) != _setting(_DEFAULTS, name)
    }


def _setting(config: CacheConfig, name: str) -> object:
    """A setting by its path; what is not there is as its parts are by default."""
    if name.startswith("coherence.") and config.coherence is None:
        return attrgetter(name.removeprefix("coherence."))(CacheCoherence())
    return attrgetter(name)(config)


_DEFAULTS = CacheConfig()
_ENCODING = ("policy.compression", "serialization")
