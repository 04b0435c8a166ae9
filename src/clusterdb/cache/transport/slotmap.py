"""Who serves which slot, as far as this process knows, and how it finds out.

One question to the cluster runs at a time and all who need it wait for that one; after an answer
the next question waits ``_PAUSE`` seconds, so that a thousand errors ask a few times.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ..errors import BackendUnavailable, ServerError
from .fleet import Fleet
from .node import Node
from .slots import SLOTS, Address, SlotRange, slot_ranges

__all__ = ["SlotMap"]

_ANSWER_WITHIN: Final = 1.0
_PAUSE: Final = 0.1


class _View(NamedTuple):
    """What one server says: whether its cluster works, its epoch, and who has which slots."""

    works: bool
    epoch: int
    ranges: list[SlotRange]


class SlotMap:
    """The slots of a cluster. ``seeds`` are asked when no server is known, or none answers."""

    def __init__(self, fleet: Fleet, seeds: Sequence[Address], now: Callable[[], float]) -> None:
        self.version = 0
        self.known = False
        self.primaries: list[Node] = []
        self.copies: dict[Node, tuple[Node, ...]] = {}
        self._fleet = fleet
        self._seeds = list(seeds)
        self._now = now
        self._epoch = -1
        self._asked_at = -_PAUSE
        self.owners: list[Node | None] = [None] * SLOTS
        self._replicas: list[tuple[Node, ...]] = [()] * SLOTS
        self._asking: asyncio.Task[None] | None = None
        self._closed = False

    def owner(self, slot: int) -> Node:
        """The primary of ``slot``; raises `BackendUnavailable` if no server has it."""
        node = self.owners[slot]
        if node is None:
            self.doubt()
            raise BackendUnavailable(f"no server of the cluster serves slot {slot}")
        return node

    def reader(self, slot: int) -> Node:
        """A replica of ``slot`` that can be reached, else its primary."""
        replicas = [node for node in self._replicas[slot] if node.down is None]
        return random.choice(replicas) if replicas else self.owner(slot)

    def moved(self, slot: int, address: Address) -> None:
        """A server said that another one serves ``slot``; the rest of the map is asked for."""
        node = self._fleet.at(address)
        if self.owners[slot] is not node:
            self.owners[slot] = node
            self._replicas[slot] = ()
            if node not in self.primaries:
                self.primaries.append(node)
            self.version += 1
        self.doubt()

    # -- asking

    def doubt(self) -> None:
        """Ask for the map in the background, as something points to a change."""
        if not self._closed:
            self._ask_once()

    async def refresh(self, deadline: float) -> None:
        """Ask for the map, or wait for the answer to a question that is under way.

        Raises `BackendUnavailable` if no server answers in time.
        """
        if self._closed:
            raise BackendUnavailable("the connections to the cluster were closed")
        asking = self._ask_once()
        await asyncio.wait([asking], timeout=max(0.0, deadline - self._now()))
        if not asking.done() or asking.cancelled():
            raise BackendUnavailable("no server of the cluster said in time who serves what")
        error = asking.exception()
        if error is not None:
            raise BackendUnavailable(str(error)) from error

    async def renew(self, lost: Iterable[Node], deadline: float) -> None:
        """`refresh`, unless that was just done while all of ``lost`` were away already.

        So a caller of a dead server doesn't wait; `doubt` goes on asking for its successor.
        """
        known = max(node.down_since for node in lost) < self._asked_at
        if not known or self._now() - self._asked_at > _PAUSE:
            await self.refresh(deadline)

    async def names(self, node: Node, deadline: float) -> bool:
        """Whether a majority of the primaries, as we know them, have slots for ``node``.

        Each counts that answers in time and whose cluster works: a primary that was cut off says
        after its node timeout that it does not.
        """
        asked = [
            asyncio.create_task(_view_of(each, deadline), name="clusterdb-cache: cluster slots")
            for each in self.primaries
        ]
        votes = 0
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    view = await answer
                except (BackendUnavailable, ServerError):
                    continue
                named = any(self._fleet.at(address) is node for _, _, address, _ in view.ranges)
                votes += view.works and named
                if votes * 2 > len(asked):
                    return True
        finally:
            for task in asked:
                task.cancel()
            if asked:
                await asyncio.wait(asked)
        return False

    def _ask_once(self) -> asyncio.Task[None]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="clusterdb-cache: cluster slots")
            self._asking.add_done_callback(_seen)
        return self._asking

    async def _ask(self) -> None:
        """Ask the primaries, then all other servers that we have heard of."""
        await asyncio.sleep(max(0.0, self._asked_at + _PAUSE - self._now()))
        reasons: list[str] = []
        try:
            if await self._ask_these(self.primaries, reasons):
                return
            others = [self._fleet.at(seed) for seed in self._seeds]
            others += {node for group in self._replicas for node in group}
            others = [node for node in others if node not in self.primaries]
            if not await self._ask_these(others, reasons):
                raise BackendUnavailable(
                    "no server of the cluster says who serves what: " + "; ".join(reasons)
                )
        finally:
            self._asked_at = self._now()

    async def _ask_these(self, nodes: Sequence[Node], reasons: list[str]) -> bool:
        """Take the first view that is not older than ours, else the newest. Return success."""
        deadline = self._now() + _ANSWER_WITHIN
        asked = [
            asyncio.create_task(_view_of(node, deadline), name="clusterdb-cache: cluster slots")
            for node in nodes
        ]
        newest: _View | None = None
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    view = await answer
                except (BackendUnavailable, ServerError) as error:
                    reasons.append(str(error))
                    continue
                if newest is None or (view.works, view.epoch) > (newest.works, newest.epoch):
                    newest = view
                if view.works and view.epoch >= self._epoch:
                    break
        finally:
            for task in asked:
                task.cancel()
            if asked:
                await asyncio.wait(asked)
        if newest is None or not newest.ranges:
            return False
        self._install(newest)
        return True

    def _install(self, view: _View) -> None:
        owners: list[Node | None] = [None] * SLOTS
        copies: list[tuple[Node, ...]] = [()] * SLOTS
        at = self._fleet.at
        self.copies = {}
        for first, last, address, replicas in view.ranges:
            many = last - first + 1
            owners[first : last + 1] = [at(address)] * many
            self.copies[at(address)] = tuple([at(each, replica=True) for each in replicas])
            copies[first : last + 1] = [self.copies[at(address)]] * many
        if owners != self.owners:
            self.version += 1
        self.owners, self._replicas, self._epoch = owners, copies, view.epoch
        self.primaries = list(dict.fromkeys(node for node in owners if node is not None))
        self.known = True
        self._fleet.keep({*self.primaries, *(node for group in set(copies) for node in group)})

    # -- life

    async def aclose(self) -> None:
        """End the question that is under way."""
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def forked(self) -> None:
        """In the child of a fork: forget the parent's question."""
        self._asking = None


async def _view_of(node: Node, deadline: float) -> _View:
    slots, info = await node.calls([("CLUSTER", "SLOTS"), ("CLUSTER", "INFO")], deadline)
    for reply in (slots, info):
        if isinstance(reply, ServerError):
            raise BackendUnavailable(f"{node.name} is no server of a cluster: {reply}")
    asked = Address(node.endpoint.host, node.endpoint.port)
    lines = dict(line.split(":", 1) for line in info.decode().split("\r\n") if ":" in line)
    ranges = slot_ranges(slots, asked)
    return _View(lines["cluster_state"] == "ok", int(lines["cluster_current_epoch"]), ranges)


def _seen(task: asyncio.Task[None]) -> None:
    """Look at the error, which those who wait raise, so that nothing is logged if nobody does."""
    if not task.cancelled():
        task.exception()
