"""A region's part of the near tier."""

from __future__ import annotations

from typing import Literal

from .quantities import Count, OptionalDuration, OptionalSize, preset
from .settings import Settings, require

__all__ = ["NearConfig"]


class NearConfig(Settings, frozen=True, kw_only=True):
    """What a region keeps in this process in front of a shared backend.

    Unset means as the backend says: `enabled` its `near`, `max_memory` its `near_size`,
    `max_staleness` (how old a hit may be at most) its own. `max_items` None is no limit. `policy`
    is what leaves first when it is full; any other than ``lru`` costs a hit a little more.
    """

    enabled: bool | None = None
    max_memory: OptionalSize = preset(None)
    max_items: Count | None = None
    policy: Literal[
        "lru", "adaptive", "fifo", "lfu", "sieve", "s3fifo", "arc", "2q", "lirs", "w_tinylfu"
    ] = "lru"
    max_staleness: OptionalDuration = preset(None)

    def _check(self) -> None:
        """Check that there is room, and time to learn what others did."""
        room = self.max_memory is None or self.max_memory >= 1
        require(room, "max_memory", "must be at least 1 byte; enabled: false keeps nothing")
        sound = self.max_staleness is None or self.max_staleness >= 0.01
        require(sound, "max_staleness", "must be at least 10 milliseconds")
