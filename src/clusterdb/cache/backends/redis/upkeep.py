"""What Redis offers to maintenance, put together."""

from __future__ import annotations

from collections.abc import Mapping

from ...settings import RegionSettings
from ...upkeep import Balance, Cleaned, Move, Space
from .cleaning import RedisCleaning
from .compacting import RedisCompacting
from .link import Link
from .names import Names
from .nonces import Nonces
from .resharding import Resharding

__all__ = ["ClusterUpkeep", "RedisUpkeep"]


class RedisUpkeep:
    """See :mod:`clusterdb.cache.upkeep`."""

    def __init__(
        self, link: Link, names: Names, nonces: Nonces, settings: Mapping[str, RegionSettings]
    ) -> None:
        self._cleaning = RedisCleaning(link, names, nonces, settings)
        self._compacting = RedisCompacting(link)

    async def count(self) -> int | None:
        return await self._cleaning.count()

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
