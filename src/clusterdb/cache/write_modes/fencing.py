"""The fences of a transaction: put before its commit, filled or given back after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ..claims import Claim
from ..codec import stamped
from ..errors import CacheError
from ..failpoints import FAILPOINTS, hit
from ..protocols import Backend, Put, Written
from ..rows import RowWritten
from .items import Item

__all__ = ["Fences"]


class Fences:
    """The fences of one transaction; each stands for ``lease`` seconds. ``confirm`` is told of each
    copy that was stored over its fence, with the version of its row.
    """

    def __init__(
        self, backend: Backend, lease: float, confirm: Callable[[tuple[str, str], int], None]
    ) -> None:
        self._backend = backend
        self._lease = lease
        self._confirm = confirm
        self.taken: dict[Item, Claim] = {}

    async def put(self, items: Sequence[Item]) -> None:
        """Fence the keys of ``items``, which are equally strict. Raises where they are and it
        can't be done.
        """
        by_region: dict[str, list[Item]] = {}
        for item in items:
            inside = by_region.get(item.region)
            if inside is None:
                by_region[item.region] = [item]
            else:
                inside.append(item)
        for region, inside in by_region.items():
            keys = [item.key for item in inside]
            try:
                claims = await self._backend.fence(region, keys, self._lease)
            except CacheError:
                if inside[0].strict:
                    raise
                continue
            self.taken.update(zip(inside, claims, strict=True))
        if FAILPOINTS:
            await hit("after-fence")

    async def fill(self, made: Mapping[Item, RowWritten]) -> None:
        """Store the copies of what was ``made`` over their fences, and give back the others. A
        cache that can't be reached is left as it is: the fences lapse.
        """
        fills: dict[str, list[tuple[Claim, Put]]] = {}
        idle: dict[str, list[Claim]] = {}
        for item, claim in self.taken.items():
            outcome, copy = made.get(item), item.copy
            if outcome is None or copy is None:
                idle.setdefault(item.region, []).append(claim)
                continue
            value = stamped(copy.value, outcome.version)
            fill = (claim, Put(item.key, value, copy.ttl, copy.tags))
            filled = fills.get(item.region)
            if filled is None:
                fills[item.region] = [fill]
            else:
                filled.append(fill)
        versions = {item.place: outcome.version for item, outcome in made.items()}
        try:
            for region, filled in fills.items():
                await self._fill(region, filled, versions)
            for region, claims in idle.items():
                await self._backend.release(region, claims)
        except CacheError:
            return

    async def _fill(
        self,
        region: str,
        fills: Sequence[tuple[Claim, Put]],
        versions: Mapping[tuple[str, str], int],
    ) -> None:
        """Store copies, with the present states of their tags: the rows are newer than any of them,
        whatever a tag was invalidated for.
        """
        tagged: dict[tuple[str, ...], list[Claim]] = {}
        for claim, copy in fills:
            if copy.tags:
                tagged.setdefault(copy.tags, []).append(claim)
        for tags, claims in tagged.items():
            await self._backend.extend(region, claims, tags)
        outcomes = await self._backend.fill(region, fills)
        for (_, copy), outcome in zip(fills, outcomes, strict=True):
            if isinstance(outcome, Written) and outcome.applied:
                place = (region, copy.key)
                self._confirm(place, versions[place])

    async def release_late(self) -> None:
        """Give the fences back when no commit can come any more."""
        await asyncio.sleep(self._lease)
        await self.fill({})
