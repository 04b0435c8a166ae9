"""The shares that the tables of one backend have of a total, and how they change while in use.

What :mod:`clusterdb.cache.budget` decides is carried out in slices: a region that gives way evicts
so many entries at a time, and only what has become free is given to another. So the limits of all
tables add up to no more than the total at every moment, and no slice takes longer than one of the
sweeper's. Every few seconds the requests are looked at again, once the last move has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .budget import Demand, Wish, decide, floor_of, spread
from .table import Table

__all__ = ["Shares"]

_LOOK_EVERY: Final = 10.0


class Shares:
    """The shares of ``total`` bytes, or of the weigher's unit. ``limits`` are those in force."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.limits: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._ceilings: dict[str, int | None] = {}
        self._demands: dict[str, Demand] = {}
        self._look_at = 0.0

    def arrange(
        self, ceilings: Mapping[str, int | None], tables: Mapping[str, Table]
    ) -> dict[str, int]:
        """These are the regions, with the most that each may have, if there is a most. Of
        ``tables``, those that have to make place do it at once; the limits of all. While nothing
        is kept they are even.
        """
        if ceilings != self._ceilings:
            self._ceilings = dict(ceilings)
            used = any(len(table) for table in tables.values())
            present = self.limits if used else {}
            self.limits = self._wanted = spread(self.total, present, ceilings)
            for name, table in tables.items():
                table.limit(self.limits[name], len(table))
        return self.limits

    @property
    def moving(self) -> bool:
        """Whether a move is under way."""
        return self.limits != self._wanted

    def look(self, tables: Mapping[str, Table], now: float) -> None:
        """Decide on a move, if it is time for one. About half a millisecond a region, a few
        microseconds of it under its lock.
        """
        if now < self._look_at or self.moving:
            return
        self._look_at = now + _LOOK_EVERY
        floor, wishes, requests = floor_of(self.total, len(tables)), {}, 0.0
        for name, table in tables.items():
            demand = self._demands.setdefault(name, Demand())
            demand.look(table.look(lambda profile, _: profile.reuses()))
            requests += demand.requests
            ceiling = self._ceilings[name]
            top = self.total if ceiling is None else min(ceiling, self.total)
            count = len(table)
            curve = demand.curve(table.weight / count) if count and table.weight else []
            wishes[name] = Wish(curve, min(floor, top), top)
        self._wanted = decide(self.total, self.limits, wishes, requests)

    def settle(self, tables: Mapping[str, Table], evict: int) -> None:
        """One slice of the move that is under way: at most ``evict`` entries leave a table."""
        if not self.moving:
            return
        limits = dict(self.limits)
        for name, wanted in self._wanted.items():
            if wanted < limits[name]:
                limits[name] = tables[name].limit(wanted, evict)
        free = self.total - sum(limits.values())
        for name, wanted in self._wanted.items():
            more = min(wanted - limits[name], free)
            if more > 0:
                limits[name] = tables[name].limit(limits[name] + more, 0)
                free -= more
        self.limits = limits
