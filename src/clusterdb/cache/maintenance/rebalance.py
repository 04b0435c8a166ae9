"""Rebalancing: keys move between servers until no server has much more than the others.

Which keys may live where is for the servers of a cluster to agree on, and moving them is felt. So a
scheduled run only says what would move; it moves when a person names this job. A move that was
interrupted is ended first: the slot that was under way is kept as the cursor, and others that are
open, whoever opened them, are ended with a person's word.

On a ring keys move when its weights change. Once begun, that has to be carried to its end: who runs
this goes on with it, also after a server that was away is back.

A move is not left half done: pausing, and the end of the time, come after it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from ..errors import BackendUnavailable
from ..upkeep import Advisable, Move, Rebalanceable, Reweighable
from .job import JobContext, Stopped

__all__ = ["RebalanceJob"]

_MOVING: Final = "moving"
_BEGUN: Final = "keys are moving to other servers: 'cache maintenance rebalance' goes on with it"
_PATIENCE: Final = 0.5


class RebalanceJob:
    """Evens out servers that differ by more than ``threshold`` from the mean. A person may ask for
    another one (option ``threshold``).
    """

    def __init__(self, name: str, upkeep: object, threshold: float) -> None:
        self.name = name
        self._upkeep = upkeep
        self.threshold = threshold

    async def run(self, context: JobContext) -> None:
        upkeep, threshold = self._upkeep, context.options.get("threshold", self.threshold)
        if isinstance(upkeep, Reweighable):
            await self._reweigh(upkeep, context, threshold)
            return
        if not isinstance(upkeep, Rebalanceable):
            context.note("this backend has nothing to rebalance: it does not spread keys itself")
            return
        await self._end_open(upkeep, context)
        balance = await upkeep.balance(threshold)
        if not balance.moves:
            return
        told = f"{balance.keys:,} keys in {len(balance.moves):,} parts"
        if not context.asked:
            context.note(f"{told} should move: 'cache maintenance rebalance' moves them")
            return
        for move in balance.moves:
            await self._carry_out(upkeep, move, context, total=balance.keys)

    async def _reweigh(self, upkeep: Reweighable, context: JobContext, threshold: float) -> None:
        """Change the weights of a ring, or go on with a change that was begun."""
        begun, weights = await upkeep.under_way(), dict[str, float]()
        if not context.asked and not (begun and context.cursor):
            advice = _BEGUN if begun else await _advice(upkeep, threshold)
            if advice:
                context.note(advice)
            return
        if not begun:
            balance = await upkeep.balance(threshold)
            if not balance.moves:
                return
            weights = balance.weights
            await context.checkpoint("", total=balance.keys, paced=False)
        ready = ended = False
        while not ended:
            try:
                if not ready:
                    await context.checkpoint(_MOVING, keep=True, paced=False)  # proves that we lead
                    if weights:
                        await upkeep.begin(weights)
                        weights = {}
                    await upkeep.resume()
                    await context.checkpoint(_MOVING, paced=False)  # it waited, and cost nothing
                    ready = True
                moved, ended = await upkeep.step(context.batch)
            except BackendUnavailable as error:
                context.note(f"it waited, and went on: {error}")
                moved, ready = 0, False
                await asyncio.sleep(_PATIENCE)
            await context.checkpoint("" if ended else _MOVING, moved=moved)

    async def _end_open(self, upkeep: Rebalanceable, context: JobContext) -> None:
        ours = msgspec.json.decode(context.cursor, type=Move).part if context.cursor else None
        for move in await upkeep.unfinished():
            where = f"part {move.part} is open between {move.source} and {move.target}"
            if context.asked or move.part == ours:
                await self._carry_out(upkeep, move, context)
                context.note(f"{where}: it was ended")
            else:
                context.note(f"{where}: 'cache maintenance rebalance' ends it")

    async def _carry_out(
        self, upkeep: Rebalanceable, move: Move, context: JobContext, total: int | None = None
    ) -> None:
        cursor = msgspec.json.encode(move).decode()
        await context.checkpoint(cursor, total=total, keep=True)  # proves that we lead, too
        ended, stopped = False, None
        while not ended:
            moved, ended = await upkeep.move(move, context.batch)
            try:
                await context.checkpoint("" if ended else cursor, moved=moved)
            except Stopped as why:
                if why.why == "lost":
                    raise
                stopped = why
        if stopped is not None:
            raise stopped


async def _advice(upkeep: object, threshold: float) -> str:
    return await upkeep.advise(threshold) if isinstance(upkeep, Advisable) else ""
