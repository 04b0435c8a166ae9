"""Batches of intents on their way to storage.

A row is written only under a version above the one it has, which is what makes a batch that comes
late, or twice, harmless. Versions come from clocks, though, and a clock may be wrong: where a row
has a version that ours has not come to, its writer's clock is ahead or ours was set back, and every
write would lose to it until the time has come, however much later it was accepted. Such a row tells
nothing of who was later. So what this process accepted is written once more, above it.

What was taken up from an earlier process, or a dead one, is not: it may have reached its row before
that row was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from ..clock import Clock
from ..errors import CacheError, ConfigError
from ..intents import Intent, Intents
from ..rows import RowChange, RowWritten, Storage
from ..types import MISSING
from ..versions import Versions
from .rows import Shape

__all__ = ["Batches"]

Outcome: TypeAlias = RowWritten | CacheError
Place: TypeAlias = tuple[str, str]


class Batches:
    """Writes batches to one storage. ``versions`` are what new intents are drawn from: here they
    learn of every row that was met.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Clock,
        shapes: Mapping[str, Shape],
        intents: Intents,
        versions: Versions,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._shapes = shapes
        self._intents = intents
        self._versions = versions
        self._earlier: dict[Place, int] = {}

    def took_up(self, intents: Sequence[Intent]) -> None:
        """These were not accepted here, or not lately."""
        self._earlier.update({intent.place: intent.version for intent in intents})

    def done(self, intents: Sequence[Intent]) -> None:
        """These will not come again."""
        for intent in intents:
            self._earlier.pop(intent.place, None)

    async def write(self, batch: Sequence[Intent]) -> tuple[list[Intent], list[Outcome]]:
        """Write the rows of ``batch``, each under the version that its intent has in the end; what
        came of each. Raises a :class:`CacheError` where storage, or the place of intents, fails.
        """
        outcomes = await self._write(batch)
        above = await self._above(batch, outcomes)
        if not above:
            return list(batch), outcomes
        second = dict(zip(above, await self._write(list(above.values())), strict=True))
        return (
            [above.get(intent.place, intent) for intent in batch],
            [
                second.get(intent.place, outcome)
                for intent, outcome in zip(batch, outcomes, strict=True)
            ],
        )

    async def _write(self, batch: Sequence[Intent]) -> list[Outcome]:
        rows = [self._row(intent) for intent in batch]
        able = [row for row in rows if isinstance(row, RowChange)]
        written = iter(await self._storage.write(able) if able else [])
        outcomes = [next(written) if isinstance(row, RowChange) else row for row in rows]
        for outcome in outcomes:
            if isinstance(outcome, RowWritten):
                self._versions.follow(outcome.version)
        return outcomes

    def _row(self, intent: Intent) -> RowChange | CacheError:
        """The change of a row, or why there is none of this value."""
        value, ttl = intent.value, None
        if intent.deadline is not None:
            ttl = intent.deadline - self._clock.wall()
            if ttl <= 0:
                value, ttl = MISSING, None
        shape = self._shapes.get(intent.region)
        if shape is None:
            return ConfigError(f"region {intent.region!r} is not written behind any more")
        try:
            value = shape.stored(value)
        except CacheError as error:
            return error
        version = intent.version if "versions" in self._storage.capabilities else None
        return RowChange(intent.region, intent.key, value, ttl, intent.tags, version=version)

    async def _above(
        self, batch: Sequence[Intent], outcomes: Sequence[Outcome]
    ) -> dict[Place, Intent]:
        """Those that lost to a row from the future, with versions above it, durable as such."""
        lost = {
            intent.place: intent
            for intent, outcome in zip(batch, outcomes, strict=True)
            if self._is_beaten_by_a_clock(intent, outcome)
        }
        for region in {intent.region for intent in lost.values()}:
            keys = [intent.key for intent in lost.values() if intent.region == region]
            for known in await self._intents.find(region, keys):
                if known.version > lost[known.place].version:  # another process was later
                    del lost[known.place]
        if not lost:
            return {}
        drawn = [replace(each, version=self._versions.draw()) for each in lost.values()]
        return {each.place: each for each in await self._intents.append(drawn)}

    def _is_beaten_by_a_clock(self, intent: Intent, outcome: Outcome) -> bool:
        if isinstance(outcome, CacheError) or outcome.applied:
            return False
        ours = self._earlier.get(intent.place) != intent.version
        return ours and outcome.version > intent.version and self._versions.later(outcome.version)
