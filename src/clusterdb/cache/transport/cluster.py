"""Redis Cluster: 16384 slots, each served by one primary, and servers that say when it is another.

The map of slots is asked of all known primaries at once and the first answer is taken whose epoch
is not older than the one we have: a primary that was cut off and comes back can't turn us round.
A command that a server refused was not carried out, so it may be sent again, writes too:

* ``MOVED``: the slot's entry is changed at once, and the whole map asked for in the background;
* ``ASK``: only this command goes to the server that the slot is moving to, behind ``ASKING``;
* ``TRYAGAIN`` (a slot in the middle of a move), ``CLUSTERDOWN``, ``LOADING``: after a pause.

A server that can't be reached makes us ask where its slots are now; a read, or a command that was
never written, follows them. Source: Redis Cluster specification, "Redirection and resharding".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

from ..backoff import Backoff
from ..config import PoolConfig
from ..errors import BackendUnavailable, OutcomeUnknown, ServerError
from .connection import Command, Connection, Reply
from .endpoint import Endpoint
from .fleet import Fleet
from .node import Node
from .refusals import NOT_NOW, put_unavailable
from .shares import Place, seats, slots_in, slots_share
from .slotmap import SlotMap
from .slots import Address, redirect, slot_of

__all__ = ["Cluster"]

_Groups: TypeAlias = dict[tuple[Node, bool], list[int]]
"""Places of commands by the server that gets them, and whether behind ``ASKING``."""

_ASKING: Final = ("ASKING",)
_ATTEMPTS: Final = 16
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.25
_REFUSED: Final = NOT_NOW | {"MOVED", "ASK"}


class _Work(NamedTuple):
    """Commands with their keys, and how they are to be sent."""

    commands: Sequence[Command]
    keys: Sequence[bytes | None]
    deadline: float
    write: bool
    bulk: bool
    replica: bool


class Cluster:
    """The primaries and replicas of one Redis Cluster. See `Topology`.

    ``seeds`` are the servers that are asked first.
    """

    promotes: ClassVar[bool] = True

    def __init__(
        self,
        seeds: Sequence[Endpoint],
        pool: PoolConfig,
        now: Callable[[], float],
        *,
        on_push: Callable[[Connection, list[Any]], None] | None = None,
    ) -> None:
        self._now = now
        self._fleet = Fleet(seeds[0], pool, now, on_push)
        self._map = SlotMap(self._fleet, [Address(seed.host, seed.port) for seed in seeds], now)

    @property
    def version(self) -> int:
        return self._map.version

    def nodes(self) -> list[Node]:
        return self._map.primaries

    def node_for(self, key: bytes) -> Node:
        return self._map.owner(slot_of(key))

    def server(self, address: Address) -> Node:
        """The server at an address, whether it has slots or not."""
        return self._fleet.at(address)

    def replicas(self, primary: Node) -> Sequence[Node]:
        return self._map.copies.get(primary, ())

    async def start(self, deadline: float) -> None:
        await self._map.refresh(deadline)

    async def refresh(self, deadline: float) -> None:
        await self._map.refresh(deadline)

    def replicas_of(self, node: Node) -> int | None:
        copies = self._map.copies.get(node)
        return None if copies is None else len(copies)

    async def names(self, node: Node, deadline: float) -> bool:
        return await self._map.names(node, deadline)

    # -- shares

    def shares(self) -> list[str]:
        owned: dict[Node | None, list[int]] = {}
        for slot, node in enumerate(self._map.owners):
            owned.setdefault(node, []).append(slot)
        return [slots_share(slots) for slots in owned.values()]

    def places(self, share: str) -> list[Place]:
        owned: dict[Node, set[int]] = {}
        for slot in slots_in(share):
            owned.setdefault(self._map.owner(slot), set()).add(slot)
        return [_place(node, slots) for node, slots in owned.items()]

    async def followed(self, place: Place, deadline: float) -> list[Place]:
        endpoint, wanted = place.node.endpoint, slots_in(place.share)
        asked = Address(endpoint.host, endpoint.port)
        told = seats((await place.node.call(("CLUSTER", "NODES"), deadline)).decode(), asked)
        gone: dict[Node, set[int]] = {}
        for slot in wanted:
            to = told.leaving.get(slot)
            if to is None and slot not in told.own:
                to = told.owners.get(slot)
            node = None if to is None else self._fleet.at(to)
            if node is not None and node is not place.source and node is not place.node:
                gone.setdefault(node, set()).add(slot)
        if gone:
            self._map.doubt()
        return [_place(node, slots, place.node) for node, slots in gone.items()]

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
        slots = self._map
        if key is not None and not replica and slots.known:
            node = slots.owner(slot_of(key))
            try:
                return await node.call(command, deadline, write=write, bulk=bulk)
            except ServerError as error:
                if error.code not in _REFUSED:
                    raise
                failed: Exception = error
            except BackendUnavailable as error:
                failed = error
            replies = [failed]
            work = _Work([command], [key], deadline, write, bulk, replica=False)
            await self._settle(work, replies, {(node, False): [0]})
        else:
            replies = await self.execute(
                [command], [key], deadline, write=write, bulk=bulk, replica=replica
            )
        [reply] = put_unavailable(replies, "the cluster")
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def execute(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes | None],
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,
    ) -> list[Reply]:
        replies: list[Reply] = [None] * len(commands)
        work = _Work(commands, keys, deadline, write, bulk, replica)
        try:
            if not self._map.known:
                await self._map.refresh(deadline)
        except BackendUnavailable as error:
            return [error] * len(commands)
        groups = self._grouped(work, range(len(commands)), {}, replies)
        await self._send(work, groups, replies)
        await self._settle(work, replies, groups)
        return put_unavailable(replies, "the cluster")

    def _grouped(
        self,
        work: _Work,
        places: Sequence[int],
        asking: dict[int, Node],
        replies: list[Reply],
    ) -> _Groups:
        """Which commands go to which server; those that no server is for get their error."""
        slots, keys = self._map, work.keys
        groups: _Groups = {}
        for place in places:
            key = keys[place]
            try:
                if place in asking:
                    target = (asking[place], True)
                elif key is None:
                    target = (random.choice(slots.primaries), False)
                elif work.replica:
                    target = (slots.reader(slot_of(key)), False)
                else:
                    target = (slots.owner(slot_of(key)), False)
            except BackendUnavailable as error:
                replies[place] = error
                continue
            group = groups.get(target)
            if group is None:
                groups[target] = [place]
            else:
                group.append(place)
        return groups

    async def _send(self, work: _Work, groups: _Groups, replies: list[Reply]) -> None:
        """Send each server its commands, to all at once; put what comes back in its places."""
        parts = list(groups.items())
        answers = await asyncio.gather(
            *[self._send_to(node, ask, work, places) for (node, ask), places in parts]
        )
        for (_, places), answer in zip(parts, answers, strict=True):
            for place, reply in zip(places, answer, strict=True):
                replies[place] = reply

    async def _send_to(
        self, node: Node, ask: bool, work: _Work, places: Sequence[int]
    ) -> list[Reply]:
        commands = [work.commands[place] for place in places]
        if ask:
            commands = [each for command in commands for each in (_ASKING, command)]
        try:
            answer = await node.calls(commands, work.deadline, write=work.write, bulk=work.bulk)
        except BackendUnavailable as error:
            return [error] * len(places)
        return answer[1::2] if ask else answer

    # -- what was refused, or not carried out

    async def _settle(self, work: _Work, replies: list[Reply], groups: _Groups) -> None:
        """Send again what may be, until each command has its answer, or the time is up."""
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        for _ in range(_ATTEMPTS):
            again, asking, wait, lost = self._unsettled(work, replies, groups)
            if lost:
                again += await self._moved_away(work, lost)
            if not again or self._now() >= work.deadline:
                return
            if wait:
                await asyncio.sleep(min(backoff.pause(), work.deadline - self._now()))
            groups = self._grouped(work._replace(replica=False), again, asking, replies)
            await self._send(work, groups, replies)

    def _unsettled(
        self, work: _Work, replies: list[Reply], groups: _Groups
    ) -> tuple[list[int], dict[int, Node], bool, dict[int, Node]]:
        """Places to send again, those of them behind ``ASKING``, whether to wait first; and the
        places whose servers can't be reached.
        """
        again: list[int] = []
        asking: dict[int, Node] = {}
        lost: dict[int, Node] = {}
        wait = False
        for (node, _), places in groups.items():
            for place in places:
                reply = replies[place]
                if not isinstance(reply, Exception):
                    continue
                if isinstance(reply, BackendUnavailable):
                    self._map.doubt()
                    if not isinstance(reply, OutcomeUnknown) and work.keys[place] is not None:
                        lost[place] = node
                elif isinstance(reply, ServerError) and reply.code in _REFUSED:
                    again.append(place)
                    wait |= self._learn(reply, node, place, asking)
        return again, asking, wait, lost

    def _learn(self, refusal: ServerError, node: Node, place: int, asking: dict[int, Node]) -> bool:
        """Take from a refusal where the command belongs. Return whether to wait first."""
        where = redirect(refusal, Address(node.endpoint.host, node.endpoint.port))
        if where is None:
            if refusal.code != "TRYAGAIN":
                self._map.doubt()
            return True
        if where.ask:
            asking[place] = self._fleet.at(where.address)
        else:
            self._map.moved(where.slot, where.address)
        return False

    async def _moved_away(self, work: _Work, lost: dict[int, Node]) -> list[int]:
        """The places of ``lost`` whose slots have another server, once the map is new."""
        if self._now() < work.deadline:
            try:
                await self._map.renew(lost.values(), work.deadline)
            except BackendUnavailable:
                return []
        owners = self._map.owners
        return [
            place
            for place, node in lost.items()
            if owners[slot_of(work.keys[place] or b"")] not in (node, None)
        ]

    # -- life

    async def aclose(self) -> None:
        await self._map.aclose()
        await self._fleet.aclose()

    def forked(self) -> None:
        self._map.forked()
        self._fleet.forked()


def _place(node: Node, slots: set[int], source: Node | None = None) -> Place:
    def has(name: bytes) -> bool:
        return slot_of(name) in slots

    return Place(slots_share(slots), node, has, source)
