"""Regions: named parts of the cache with their own limits, expiry and loads."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET

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
    loader is cancelled (None: never). `negative_ttl` remembers a failed load. `lease` is how long
    a process may hold the right to load a key without renewing it.
    """

    soft_deadline: OptionalDuration = preset(None)
    hard_deadline: OptionalDuration = preset("30s")
    negative_ttl: OptionalDuration = preset(None)
    max_concurrent_loads: Count = 64
    lease: Duration = preset("30s")

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
    is the same as ``policy.max_memory``; give one of them. `instant_clear`: `clear` takes one write
    on a shared backend, and each read and write of the region asks once more.
    """

    size: OptionalSize = preset(None)
    ttl: RegionTtl = preset(UNSET)
    policy: EvictionPolicy | None = None
    ttl_jitter: Fraction = 0.0
    grace: Duration = preset(0.0)
    isolation: Literal["share", "copy", "check"] = "share"
    on_unavailable: Literal["raise", "load", "miss"] | None = None
    loads: LoadConfig = LoadConfig()
    instant_clear: bool = False

    @property
    def eviction(self) -> EvictionPolicy | None:
        """The limits in force: the policy with `size` as its memory; None is the cache's own."""
        if self.size is None:
            return self.policy
        return msgspec.structs.replace(self.policy or Adaptive(), max_memory=self.size)

    def _check(self) -> None:
        """Check that memory is limited, in one place."""
        require(self.size is None or self.size >= 1, "size", "must be at least 1 byte")
        twice = self.size is not None and self.policy is not None and self.policy.max_memory
        require(not twice, "size", "is the same as policy.max_memory: give one of them")
