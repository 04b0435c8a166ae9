"""Eviction, limits and compression."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from .quantities import Count, OptionalSize, Size, preset
from .settings import Settings, require

__all__ = [
    "ARC",
    "FIFO",
    "LFU",
    "LIRS",
    "LRU",
    "S3FIFO",
    "SIEVE",
    "Adaptive",
    "Admission",
    "CachePolicy",
    "Compression",
    "EvictionPolicy",
    "TwoQueue",
    "WTinyLFU",
]


class Admission(Settings, frozen=True, kw_only=True):
    """Which new entries a full region takes in; the memory backend acts on it.

    `filter`: ``doorkeeper`` refuses a key that was not seen before, ``frequency`` one that was used
    less often than what would have to leave for it. `max_entry_size` refuses larger entries, in
    bytes or the weigher's unit. `max_rate`: so many new entries a second, as a mean; a second's
    worth may come at once. A refused write is counted, and leaves the key absent.
    """

    filter: Literal["doorkeeper", "frequency"] | None = None
    max_entry_size: OptionalSize = preset(None)
    max_rate: Count | None = None

    def _check(self) -> None:
        """Check that something can come in."""
        for name in ("max_entry_size", "max_rate"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, "must be at least 1; None is no limit")


class _Limits(Settings, frozen=True, kw_only=True):
    """What a policy may hold, and what comes in; None is no limit."""

    max_memory: OptionalSize = preset(None)
    max_items: Count | None = None
    admission: Admission | None = None

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = super().__rich_repr__()
        return [each for each in shown if each != ("admission", None)]

    def _check(self) -> None:
        """Check that there is room for something."""
        room = self.max_memory is None or self.max_memory >= 1
        require(room, "max_memory", "must be at least 1 byte; None is no limit")


class Adaptive(_Limits, frozen=True, kw_only=True, tag_field="type", tag="adaptive"):
    """Evict by what would have hit most lately, from LRU to LFU. Needs no tuning."""


class LRU(_Limits, frozen=True, kw_only=True, tag_field="type", tag="lru"):
    """Evict what was not used for the longest time."""


class FIFO(_Limits, frozen=True, kw_only=True, tag_field="type", tag="fifo"):
    """Evict what was written first."""


class LFU(_Limits, frozen=True, kw_only=True, tag_field="type", tag="lfu"):
    """Evict what is used least often; new entries overtake old ones in time."""


class SIEVE(_Limits, frozen=True, kw_only=True, tag_field="type", tag="sieve"):
    """FIFO that spares what was used since the last round."""


class S3FIFO(_Limits, frozen=True, kw_only=True, tag_field="type", tag="s3fifo"):
    """A small queue for what is new, a main one for what was used twice."""


class ARC(_Limits, frozen=True, kw_only=True, tag_field="type", tag="arc"):
    """Two recency lists, of entries used once and again, in a share that adapts."""


class TwoQueue(_Limits, frozen=True, kw_only=True, tag_field="type", tag="2q"):
    """2Q: a queue for what is new, LRU for what came back after it left that."""


class LIRS(_Limits, frozen=True, kw_only=True, tag_field="type", tag="lirs"):
    """Keep what has the shortest distance between its last two uses."""


class WTinyLFU(_Limits, frozen=True, kw_only=True, tag_field="type", tag="w_tinylfu"):
    """A window of adaptive size, and a main part that takes only what is used more often."""


EvictionPolicy: TypeAlias = (
    Adaptive | LRU | FIFO | LFU | SIEVE | S3FIFO | ARC | TwoQueue | LIRS | WTinyLFU
)


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

    eviction: EvictionPolicy = Adaptive(max_items=1_000_000)
    compression: Compression | None = None
