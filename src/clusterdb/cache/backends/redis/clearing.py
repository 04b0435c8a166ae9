"""Clearing regions: their entries on all servers, and all that this process knows of them.

What is near goes before the servers are asked and once more when they have answered, as with every
change; what a lost primary could forget of it is noted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...settings import RegionSettings
from .claiming import Claiming
from .limits import Limits
from .nearby import Nearby
from .nonces import REGION_TAG, Nonces
from .replicas import Replicas
from .scanning import Scanning
from .succession import Succession

__all__ = ["Clearing"]


class Clearing:
    """The clears of one backend."""

    def __init__(
        self,
        nearby: Nearby,
        limits: Limits,
        nonces: Nonces,
        scanning: Scanning,
        claiming: Claiming,
        succession: Succession,
        replicas: Replicas | None,
        settings: Mapping[str, RegionSettings],
    ) -> None:
        self._nearby = nearby
        self._limits = limits
        self._nonces = nonces
        self._scanning = scanning
        self._claiming = claiming
        self._succession = succession
        self._replicas = replicas
        self._settings = settings

    async def clear(self, regions: Sequence[str]) -> int:
        """See :meth:`Backend.clear`. Cost: one round trip a region with ``instant_clear``, a scan
        of all servers for another.
        """
        cleared, since = 0, self._succession.version
        for region in regions:
            instant = self._settings[region].instant_clear
            self._nearby.clear(region)
            try:
                await self._limits.cleared(region)
                if instant:
                    await self._nonces.end_region(region)
                else:
                    cleared += await self._scanning.clear(region)
            finally:
                if instant:
                    self._succession.note("nonce", [self._nonces.name(region, REGION_TAG)], since)
                else:
                    self._succession.note("region", [region.encode()], since)
                self._nearby.clear(region)
                self._claiming.cleared(region, owed=instant)
                if self._replicas is not None:
                    self._replicas.wrote_all()
        return cleared
