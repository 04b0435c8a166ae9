"""Regions: named parts of the cache with their own limits, expiry and loads."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .breaker import BreakerConfig
from .coherence import CoherenceMode
from .near import NearConfig
from .policy import Adaptive, EvictionPolicy
from .quantities import (
    Count,
    Duration,
    Fraction,
    Name,
    OptionalDuration,
    OptionalSize,
    RegionTtl,
    preset,
)
from .settings import Settings, require

__all__ = ["CacheRegion", "LoadConfig"]


class LoadConfig(Settings, frozen=True, kw_only=True):
    """How `get_or_load` loads.

    After `soft_deadline` callers get the stale entry if there is one; at `hard_deadline` the
    loader is cancelled (None: never). A loader that raises is called again up to `retries` times
    within its hard deadline. `negative_ttl` remembers a failed load. `lease` is how long
    a process may hold the right to load a key without renewing it.

    For so long after its expiry an entry is given at once while one load renews it
    (`stale_while_revalidate`), and is given instead of an error (`stale_if_error`).
    `refresh_ahead` is the factor of the XFetch rule, by which a hit shortly before the expiry may
    load the entry again: 0 is never, 1 a good start, more is earlier. `breaker` is round the
    loaders of the region: while it is open none is called.
    """

    soft_deadline: OptionalDuration = preset(None)
    hard_deadline: OptionalDuration = preset("30s")
    retries: Annotated[int, Meta(ge=0, le=100)] = 0
    negative_ttl: OptionalDuration = preset(None)
    max_concurrent_loads: Count = 64
    lease: Duration = preset("30s")
    stale_while_revalidate: Duration = preset(0.0)
    stale_if_error: Duration = preset(0.0)
    refresh_ahead: Annotated[float, Meta(ge=0, le=1000)] = 0.0
    breaker: BreakerConfig | None = None

    def _check(self) -> None:
        """Check the order of the deadlines."""
        for name in ("soft_deadline", "hard_deadline", "negative_ttl", "lease"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "must be above 0 seconds")
        soft, hard = self.soft_deadline, self.hard_deadline
        ordered = soft is None or hard is None or soft < hard
        message = f"{soft} s is not below hard_deadline {hard} s"
        require(ordered, "soft_deadline", message)


class _Named(Settings, frozen=True, kw_only=False):
    """Lets the name be given by position."""

    name: Name


class CacheRegion(_Named, frozen=True, kw_only=True):
    """A named part of the cache: its own key space, limits, expiry and loads.

    Unset means: `ttl` and `on_unavailable` as the cache has them. `ttl=None` is no expiry. `size`
    is the same as ``policy.max_memory``; give one of them. `near` is what this process keeps in
    front of a shared backend. `mode` is how its writes reach a storage, unset as the cache's
    coherence says, None without one. `grace` is how long an expired entry is kept, and is at least
    as long as `loads` may give one. `instant_clear`: `clear` takes one write on a shared backend,
    and each read and write of the region asks once more.
    """

    size: OptionalSize = preset(None)
    ttl: RegionTtl = preset(UNSET)
    policy: EvictionPolicy | None = None
    ttl_jitter: Fraction = 0.0
    grace: Duration = preset(0.0)
    isolation: Literal["share", "copy", "check"] = "share"
    on_unavailable: Literal["raise", "load", "miss"] | None = None
    loads: LoadConfig = LoadConfig()
    near: NearConfig = NearConfig()
    mode: CoherenceMode | UnsetType | None = UNSET
    instant_clear: bool = False

    @property
    def eviction(self) -> EvictionPolicy | None:
        """The limits in force: the policy with `size` as its memory; None is the cache's own."""
        if self.size is None:
            return self.policy
        return msgspec.structs.replace(self.policy or Adaptive(), max_memory=self.size)

    @property
    def kept(self) -> float:
        """Seconds that an entry is kept after its expiry."""
        loads = self.loads
        return max(self.grace, loads.stale_while_revalidate, loads.stale_if_error)

    def _check(self) -> None:
        """Check that memory is limited, in one place."""
        require(self.size is None or self.size >= 1, "size", "must be at least 1 byte")
        twice = self.size is not None and self.policy is not None and self.policy.max_memory
        require(not twice, "size", "is the same as policy.max_memory: give one of them")
