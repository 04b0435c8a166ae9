"""Eviction, limits and compression."""

from __future__ import annotations

from typing import Literal, TypeAlias

from .quantities import Count, OptionalSize, Size, preset
from .settings import Settings, require

__all__ = ["FIFO", "LFU", "LRU", "CachePolicy", "Compression", "EvictionPolicy"]


class _Limits(Settings, frozen=True, kw_only=True):
    """What a policy may hold; None is no limit."""

    max_memory: OptionalSize = preset(None)
    max_items: Count | None = None

    def _check(self) -> None:
        """Check that there is room for something."""
        room = self.max_memory is None or self.max_memory >= 1
        require(room, "max_memory", "must be at least 1 byte; None is no limit")


class LRU(_Limits, frozen=True, kw_only=True, tag_field="type", tag="lru"):
    """Evict what was not used for the longest time."""


class FIFO(_Limits, frozen=True, kw_only=True, tag_field="type", tag="fifo"):
    """Evict what was written first."""


class LFU(_Limits, frozen=True, kw_only=True, tag_field="type", tag="lfu"):
    """Evict what is used least often."""


EvictionPolicy: TypeAlias = LRU | FIFO | LFU


class Compression(Settings, frozen=True, kw_only=True):
    """Compress encoded values of at least `min_size` bytes."""

    algorithm: Literal["lz4", "zstd"] = "lz4"
    min_size: Size = preset("1kB")
    level: int | None = None

    def _check(self) -> None:
        """Check the level against what the algorithm knows."""
        top = 16 if self.algorithm == "lz4" else 22
        known = self.level is None or 0 <= self.level <= top
        require(known, "level", f"{self.algorithm} takes 0 to {top}, got {self.level}")


class CachePolicy(Settings, frozen=True, kw_only=True):
    """The limits of the default region, and compression."""

    eviction: EvictionPolicy = LRU(max_items=1_000_000)
    compression: Compression | None = None
