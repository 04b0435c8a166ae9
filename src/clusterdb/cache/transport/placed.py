"""A ring of single copies whose keys can move: it follows the placement that its servers keep.

While nothing moves it is a `Ring`, and a call costs what it costs there. While keys move, a command
about one that gets another server goes to the old one first, guarded, and to the new one if the key
is not there any more: at each moment one of the two decides on it (:mod:`.guard`). Where the
placement changes while a call is under way, what was certainly not carried out is sent again by the
new one, within the call's deadline.

A scan has to look at each server twice while keys move: a key that leaves a server before that is
looked at, for one that was looked at before, is met the second time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from ..config import Consistent, PoolConfig
from ..errors import BackendUnavailable, CacheError, OutcomeUnknown, ServerError
from ..partition import HashRing
from ..partition.placement import Placement, Seat
from .connection import Command, Connection, Reply
from .endpoint import Endpoint
from .guard import LEFT, MIXED, STALE, Guard, left
from .node import Node
from .placing import LOOK_EVERY, Placing
from .ring import Ring, Work, address_on_ring, grouped
from .shares import Place, no_share
from .topology import Topology

__all__ = ["PlacedRing", "in_motion", "is_moving", "placement_problems", "together"]

_PAUSE: Final = 0.02
_SCATTERED: Final = (
    "its keys were on one server, and are not any more: the weights of the ring have changed; give "
    "keys that belong together a common {tag}"
)
_ANEW: Final = "the keys were placed anew"
_ELSEWHERE: Final = {
    LEFT: _ANEW,
    MIXED: "only some of its keys have moved to their new server; they follow as long as "
    "'cache maintenance rebalance' runs",
    STALE: "its server does not know yet, or any more, that keys are moving; "
    "'cache maintenance rebalance' sees to it, and goes on",
}


class PlacedRing(Ring):
    """Servers at ``where``, with keys placed by what they keep, else by ``strategy``."""

    def __init__(
        self,
        where: Sequence[Endpoint],
        pool: PoolConfig,
        strategy: Consistent,
        now: Callable[[], float],
        guard: Guard,
        *,
        on_push: Callable[[Connection, list[Any]], None] | None = None,
    ) -> None:
        super().__init__(where, pool, strategy, now, on_push=on_push, prepare=self._prepare)
        names = [address_on_ring(each) for each in where]
        weights = strategy.weights or (1.0,) * len(where)
        configured = Placement(
            epoch=0,
            weights=dict(zip(names, weights, strict=True)),
            virtual_nodes=strategy.virtual_nodes,
        )
        self.placing = Placing(guard.record, guard.label, configured, where, now, self._adopt)
        self._guard = guard
        self._weighted = bool(strategy.weights)
        self._shares = self._ring
        self._fixed = HashRing(dict.fromkeys(names, 1.0), virtual_nodes=strategy.virtual_nodes)
        self._leaving: list[Node] = []
        self._looking: asyncio.Task[None] | None = None

    # -- who has what

    @property
    def moving(self) -> bool:
        """Whether keys move, or are about to."""
        return self.placing.placed.before is not None

    @property
    def problems(self) -> list[str]:
        """Sentences for a person: where the servers and the configuration say different things."""
        placing = self.placing
        if placing.problem:
            return [placing.problem]
        weights = placing.placed.placement.weights
        if not self._weighted or weights == placing.configured.weights:
            return []
        told = [round(weights[name], 4) for name in self._by_name]
        text = (
            f"keys are placed by the weights that the servers keep, {told}, and not by those of "
            f"partitioning.strategy.weights: write these there, or none"
        )
        return [text]

    def owners(self, key: bytes) -> list[Node]:
        return [self._by_name[self.seat(key).first]]

    def seat(self, key: bytes) -> Seat:
        """Where a key is, and where it goes to, if it moves."""
        if self._guard.stays(key):
            return Seat(self._fixed.owners(key)[0], None)
        return self.placing.placed.seat(key)

    def together(self, keys: Sequence[bytes]) -> bool:
        """Whether ``keys`` are on one server, and go to one, if they move."""
        return len({self.seat(key) for key in keys}) <= 1

    def database(self, server: str) -> int:
        """The number of the database that we use on a server."""
        return self._by_name[server].endpoint.database

    def in_motion(self, key: bytes) -> bool:
        """Whether ``key`` is getting another server."""
        return self.moving and self.seat(key).then is not None

    async def _prepare(self, node: Node, connection: Connection, deadline: float) -> None:
        await self.placing.prepare(node, connection, deadline)
        if node not in self._nodes:
            raise BackendUnavailable(f"{node.name} gets new connections: keys are placed anew")

    def _adopt(self) -> None:
        """There is another placement: from now on connections are those that know of it."""
        before = self._nodes
        names = list(self._by_name)
        self._nodes = self._alive = [node.successor() for node in before]
        self._by_name = dict(zip(names, self._nodes, strict=True))
        self._ring = self.placing.placed.ring
        self._silent_since.clear()
        self._version += 1
        self._leaving = [node for node in self._leaving if node.busy] + before
        for node in before:
            node.retire()

    # -- calls

    async def call(
        self,
        key: bytes | None,
        command: Command,
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,
    ) -> Reply:
        while True:
            version = self._version
            try:
                if key is None or not (self.moving or self._is_scattered(command)):
                    return await super().call(
                        key, command, deadline, write=write, bulk=bulk, replica=replica
                    )
                [reply] = await self._once(Work([command], [key], deadline, write, bulk), [0])
                if isinstance(reply, Exception):
                    raise reply
            except BackendUnavailable as error:
                if not self._again(error, version, deadline):
                    raise
            else:
                return reply

    async def execute(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes | None],
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,  # noqa: ARG002 - there are none
    ) -> list[Reply]:
        work = Work(commands, keys, deadline, write, bulk)
        replies: list[Reply] = [None] * len(keys)
        places: Sequence[int] = range(len(keys))
        while True:
            version = self._version
            for place, reply in zip(places, await self._once(work, places), strict=True):
                replies[place] = reply
            places = [at for at in places if self._again(replies[at], version, deadline)]
            if not places:
                return replies

    async def ask(
        self,
        server: str,
        commands: Sequence[Command],
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
    ) -> list[Reply]:
        """The replies of one server, by its address on the ring, whoever has the keys."""
        while True:
            version = self._version
            try:
                node = self._by_name[server]
                return await node.calls(commands, deadline, write=write, bulk=bulk)
            except BackendUnavailable as error:
                if not self._again(error, version, deadline):
                    raise

    def _again(self, reply: Reply, version: int, deadline: float) -> bool:
        """Whether something was not carried out, and the placement has changed since."""
        refused = isinstance(reply, BackendUnavailable) and not isinstance(reply, OutcomeUnknown)
        return refused and version != self._version and self._now() < deadline

    def _is_scattered(self, command: Command) -> bool:
        """Whether the keys of a script have not all the same place: who put them together did so by
        a placement that has changed since.
        """
        if command[0] not in ("EVALSHA", "EVAL") or command[2] == 1:
            return False
        count = command[2]
        assert isinstance(count, int), "we say the number of keys as one"
        return not self.together([key for key in command[3 : 3 + count] if isinstance(key, bytes)])

    async def _once(self, work: Work, places: Sequence[int]) -> list[Reply]:
        """The replies by the placement of this moment."""
        version, found = self._version, dict[int, Reply]()
        still: list[int] = []
        moving: list[int] = []
        for at in places:
            key = work.keys[at]
            if self._is_scattered(work.commands[at]):
                found[at] = BackendUnavailable(_SCATTERED)
            else:
                moves = self.moving and key is not None and self.in_motion(key)
                (moving if moves else still).append(at)
        if not moving:
            found |= await self._where_they_stay(work, still, version)
        else:
            for some in await asyncio.gather(
                self._where_they_stay(work, still, version),
                self._where_they_are(work, moving, version),
            ):
                found |= some
        return [found[at] for at in places]

    async def _where_they_stay(
        self, work: Work, places: Sequence[int], version: int
    ) -> dict[int, Reply]:
        """The replies about keys that don't move, as long as the placement is of ``version``."""
        if version != self._version:
            return dict.fromkeys(places, BackendUnavailable(_ANEW))
        commands = [work.commands[at] for at in places]
        some = work._replace(commands=commands, keys=[work.keys[at] for at in places])
        return dict(zip(places, await self._on_one(some), strict=True))

    # -- keys in motion

    async def _where_they_are(
        self, work: Work, places: Sequence[int], version: int
    ) -> dict[int, Reply]:
        """The replies about keys that are getting another server."""
        replies: dict[int, Reply] = {}
        waiting = list(places)
        while waiting and version == self._version:
            said = await self._guarded(work, waiting, {})
            gone = {at: found.flags for at in waiting if (found := left(said[at])) is not None}
            if gone and version == self._version:
                said |= await self._guarded(work, list(gone), gone)
            not_yet = {at: code for at in waiting if (code := _not_yet(said[at])) is not None}
            replies |= {at: said[at] for at in waiting if at not in not_yet}
            waiting = list(not_yet)
            if not waiting:
                break
            left_of_it = work.deadline - self._now()
            if left_of_it <= 0:
                return replies | {
                    at: BackendUnavailable(_ELSEWHERE[code]) for at, code in not_yet.items()
                }
            await asyncio.sleep(min(_PAUSE, left_of_it))
            if STALE in not_yet.values():
                with suppress(CacheError):
                    await self.placing.look(self._nodes, work.deadline)
        return replies | dict.fromkeys(waiting, BackendUnavailable(_ANEW))

    async def _guarded(
        self, work: Work, places: Sequence[int], gone: dict[int, str]
    ) -> dict[int, Reply]:
        """What the old servers say, or the new ones about keys that are ``gone`` from those."""
        placed, commands = self.placing.placed, list(work.commands)
        nodes: list[Node] = []
        for at in places:
            key = work.keys[at]
            assert key is not None, "only keys move"
            seat = placed.seat(key)
            if at in gone and seat.then is not None:
                commands[at] = self._guard.at_new(commands[at], key, gone[at])
                nodes.append(self._by_name[seat.then])
            else:
                commands[at] = self._guard.at_old(commands[at], key, placed.placement.version)
                nodes.append(self._by_name[seat.first])
        parts = grouped(list(zip(nodes, places, strict=True)))
        some = work._replace(commands=commands)
        answers = await asyncio.gather(
            *[self._send(node, some, group, work.deadline) for node, group in parts]
        )
        return {
            at: reply
            for (_, group), answer in zip(parts, answers, strict=True)
            for at, reply in zip(group, answer, strict=True)
        }

    # -- shares

    def places(self, share: str) -> list[Place]:
        """Shares are cut by the configuration, whatever placement counts, so that they are all keys
        also where it changes from one to the next.
        """
        if share not in self._by_name:
            raise no_share(share, next(iter(self._by_name)))

        def has(name: bytes) -> bool:
            return self._shares.owners(name)[0] == share

        if not self.placing.epoch:
            return [Place(share, self._by_name[share], has)]
        looks = 2 if self.moving else 1
        return [Place(share, node, has) for node in self._nodes] * looks

    # -- life

    async def start(self, deadline: float) -> None:
        while True:
            version = self._version
            try:
                await super().start(deadline)
                break
            except BackendUnavailable as error:
                if not self._again(error, version, deadline):
                    raise
        if self._looking is None:
            self._looking = asyncio.create_task(
                self._look(), name="clusterdb-cache: placement of keys"
            )

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            with suppress(CacheError):
                await self.placing.look(self._nodes, self._now() + LOOK_EVERY)

    async def aclose(self) -> None:
        looking, self._looking = self._looking, None
        if looking is not None and not looking.get_loop().is_closed():
            looking.cancel()
            await asyncio.wait([looking])
        await self.placing.aclose()
        leaving, self._leaving = self._leaving, []
        for node in leaving:
            await node.aclose()
        await super().aclose()

    def forked(self) -> None:
        self._looking = None
        self.placing.forked()
        for node in self._leaving:
            node.forked()
        super().forked()


def _not_yet(reply: Reply) -> str | None:
    """Why an answer has to wait, if so."""
    waits = isinstance(reply, ServerError) and reply.code in _ELSEWHERE
    return reply.code if waits else None


def is_moving(topology: Topology) -> bool:
    """Whether keys move between servers that know nothing of each other."""
    return isinstance(topology, PlacedRing) and topology.moving


def together(topology: Topology, keys: Sequence[bytes]) -> bool:
    """Whether one script may change all of ``keys`` of a ring."""
    if isinstance(topology, PlacedRing):
        return topology.together(keys)
    return len({topology.node_for(key) for key in keys}) <= 1


def placement_problems(topology: Topology) -> list[str]:
    """Sentences for a person about where the keys of a ring are."""
    return topology.problems if isinstance(topology, PlacedRing) else []


def in_motion(topology: Topology, key: bytes) -> bool:
    """Whether ``key`` is getting another server, so that only calls of the topology find it."""
    return isinstance(topology, PlacedRing) and topology.in_motion(key)
