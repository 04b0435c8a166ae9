"""The face of maintenance: what a cache lets its users ask of it."""

from __future__ import annotations

from typing import Final

from .errors import NotSupported
from .maintenance import MaintenanceRun, MaintenanceState
from .runtime import Runtime
from .upkeep import Balance, Rebalanceable, Reweighable

__all__ = ["MAINTENANCE_PLAN", "Maintaining"]

MAINTENANCE_PLAN: Final = "maintenance"


class Maintaining:
    """The part of a cache that is maintained."""

    _runtime: Runtime

    async def get_maintenance(self) -> MaintenanceState:
        """What the processes of this cache agree on: who leads, what runs and how far it is, and
        the last runs. One round trip. Raises :class:`NotSupported` without maintenance.
        """
        await self._runtime.ready()
        return await self._runtime.maintenance.state()

    async def get_balance(self, threshold: float = 0.2) -> Balance:
        """How many keys each server of a cluster or ring has, and the moves that would even it out,
        where one is further from the mean than ``threshold``. Nothing moves. A round trip a server,
        and one for each 2000 slots of a cluster, or 1000 keys of a ring. Raises
        :class:`NotSupported` for a backend that spreads no keys, and while those of a ring move.
        """
        await self._runtime.ready()
        backend = self._runtime.backend
        upkeep: object = getattr(backend, "upkeep", None)
        if not isinstance(upkeep, Rebalanceable | Reweighable):
            raise NotSupported(
                f"backend {backend.kind!r} is no Redis Cluster and no ring of single copies here: "
                f"there is nothing to move"
            )
        return await upkeep.balance(threshold)

    async def run_maintenance(self, *tasks: str) -> MaintenanceRun:
        """Run all tasks now, or those that are named, in the process that leads, and wait for their
        end. Raises :class:`CacheError` where maintenance is paused, or nobody begins.
        """
        await self._runtime.ready()
        maintenance = self._runtime.maintenance
        return await maintenance.finished(await maintenance.ask(MAINTENANCE_PLAN, tasks))

    async def pause_maintenance(self) -> None:
        """Let no task run, in any process, until :meth:`resume_maintenance`; what runs stops after
        the step it is at, within seconds.
        """
        await self._runtime.ready()
        await self._runtime.maintenance.pause()

    async def resume_maintenance(self) -> None:
        """Let tasks run again; those that were stopped go on where they were."""
        await self._runtime.ready()
        await self._runtime.maintenance.resume()
