"""What Redis offers to maintenance, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...config import PartitioningConfig, Redis
from ...partition import even_weights
from ...settings import RegionSettings
from ...upkeep import Balance, Cleaned, Move, Space
from .cleaning import RedisCleaning
from .compacting import RedisCompacting
from .link import Link
from .names import Names
from .nonces import Nonces
from .resharding import Resharding
from .ringmoves import RingMoves

__all__ = ["ClusterUpkeep", "RedisUpkeep", "RingUpkeep", "redis_upkeep"]


class RedisUpkeep:
    """See :mod:`clusterdb.cache.upkeep`."""

    def __init__(
        self, link: Link, names: Names, nonces: Nonces, settings: Mapping[str, RegionSettings]
    ) -> None:
        self._cleaning = RedisCleaning(link, names, nonces, settings)
        self._compacting = RedisCompacting(link)

    async def count(self) -> int | None:
        return sum((await self._cleaning.counts()).values())

    async def clean(self, cursor: str, older_than: float, limit: int) -> Cleaned:
        return await self._cleaning.clean(cursor, older_than, limit)

    async def space(self) -> list[Space]:
        return await self._compacting.space()

    async def compact(self, name: str, limit: int) -> tuple[int, str]:
        return await self._compacting.compact(name, limit)


class ClusterUpkeep(RedisUpkeep):
    """The same for a Redis Cluster, whose slots can be moved."""

    def __init__(
        self, link: Link, names: Names, nonces: Nonces, settings: Mapping[str, RegionSettings]
    ) -> None:
        super().__init__(link, names, nonces, settings)
        self._resharding = Resharding(link)

    async def balance(self, threshold: float) -> Balance:
        return await self._resharding.balance(threshold)

    async def unfinished(self) -> list[Move]:
        return await self._resharding.unfinished()

    async def move(self, move: Move, limit: int) -> tuple[int, bool]:
        return await self._resharding.move(move, limit)


class RingUpkeep(RedisUpkeep):
    """The same for a ring, whose keys move when its weights change."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        settings: Mapping[str, RegionSettings],
        weights: Sequence[float] | None,
    ) -> None:
        super().__init__(link, names, nonces, settings)
        self._weights = weights
        self._moves = RingMoves(link, names)

    async def balance(self, threshold: float) -> Balance:
        return await self._moves.balance(threshold)

    async def under_way(self) -> bool:
        return await self._moves.under_way()

    async def begin(self, weights: Mapping[str, float]) -> None:
        await self._moves.begin(weights)

    async def resume(self) -> None:
        await self._moves.resume()

    async def step(self, limit: int) -> tuple[int, bool]:
        return await self._moves.step(limit)

    async def advise(self, threshold: float) -> str:
        loads = await self._cleaning.counts()
        weights = dict(zip(loads, self._weights or (1.0,) * len(loads), strict=True))
        even = even_weights(weights, loads, threshold)
        if even == weights:
            return ""
        held = ", ".join([f"{name} {load:,}" for name, load in loads.items()])
        return (
            f"servers hold different numbers of keys ({held}): 'cache maintenance rebalance' shows "
            f"(--plan) and moves what evens them out"
        )


def redis_upkeep(
    redis: Redis,
    partitioning: PartitioningConfig,
    link: Link,
    names: Names,
    nonces: Nonces,
    settings: Mapping[str, RegionSettings],
) -> RedisUpkeep:
    """What servers that are deployed like these offer."""
    if redis.cluster:
        return ClusterUpkeep(link, names, nonces, settings)
    if redis.is_ring:
        weights = partitioning.strategy.weights or None
        return RingUpkeep(link, names, nonces, settings, weights)
    return RedisUpkeep(link, names, nonces, settings)
