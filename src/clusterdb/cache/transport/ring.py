"""A ring: independent servers, each with a share of the keys, or with a copy of a larger share.

Placement is `partition.HashRing`'s. It is a cache spread over plain servers and nothing more: they
know nothing of each other, and there is no consensus.

* **One copy**: a key is on one server, and for that key the ring is this server. When it is away
  its keys are unavailable; they don't go elsewhere, as old copies would come back with it.
* **More copies**: a write goes to all owners of its key at once, and its answer is that of the
  first owner that took it. If another did not, it is done all the same and raises `Degraded`. A
  read asks the first owner that is believed to be alive, then the next ones; each may take its
  share of the time that is left, so that a silent owner leaves some for the others.

An owner is believed to be away while its node is `down`, and after it left a call without an
answer until it is heard again. So a frozen server costs one slow read, not each. Processes may
believe differently, and an owner that missed writes and comes back answers reads with what it has:
copies need a TTL, which bounds how long that can be seen, and servers that come back empty.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from ..config import Consistent, PoolConfig
from ..errors import BackendUnavailable, ConfigError, Degraded, OutcomeUnknown, ServerError
from ..partition import HashRing
from .connection import Command, Connection, Reply
from .endpoint import Endpoint
from .node import Node, Prepare
from .refusals import as_unavailable, put_unavailable
from .shares import Place, no_share
from .topology import Topology

__all__ = ["Ring", "Work", "address_on_ring", "copies_in", "grouped"]

_UNKNOWN_SCRIPT: Final = "NOSCRIPT"


class Work(NamedTuple):
    """Commands with their keys, and how they are to be sent."""

    commands: Sequence[Command]
    keys: Sequence[bytes | None]
    deadline: float
    write: bool
    bulk: bool


class Ring:
    """Servers at ``where``, with keys placed by ``strategy``. See `Topology`.

    Raises `ConfigError` for an address that is there twice.
    """

    promotes: ClassVar[bool] = False

    def __init__(
        self,
        where: Sequence[Endpoint],
        pool: PoolConfig,
        strategy: Consistent,
        now: Callable[[], float],
        *,
        on_push: Callable[[Connection, list[Any]], None] | None = None,
        prepare: Prepare | None = None,
    ) -> None:
        weights = strategy.weights or (1.0,) * len(where)
        names = [address_on_ring(each) for each in where]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            message = f"{twice[0]} is there twice; each server of a ring is named once"
            raise ConfigError(f"cache.backend.urls: {message}", path="cache.backend.urls")
        self._ring = HashRing(
            dict(zip(names, weights, strict=True)),
            virtual_nodes=strategy.virtual_nodes,
            copies=strategy.replicas,
        )
        self.copies = strategy.replicas
        self._now = now
        self._nodes = [Node(each, pool, now, on_push=on_push, prepare=prepare) for each in where]
        self._by_name = dict(zip(names, self._nodes, strict=True))
        self._silent_since: dict[Node, float] = {}
        self._version = 0
        self._alive = self._nodes

    # -- who has what

    @property
    def version(self) -> int:
        """With several copies it grows, too, when an owner is found to be away, or back."""
        if self.copies > 1:
            alive = [node for node in self._nodes if self._lives(node)]
            if alive != self._alive:
                self._alive = alive
                self._version += 1
        return self._version

    def nodes(self) -> list[Node]:
        return self._nodes

    def node_for(self, key: bytes) -> Node:
        """The owner that a read of ``key`` would ask first."""
        return self._asked(key, self._away())[0]

    def owners(self, key: bytes) -> list[Node]:
        """All that hold ``key``, in the order of the ring, whether they live or not."""
        return [self._by_name[name] for name in self._ring.owners(key)]

    def _asked(self, key: bytes | None, away: Collection[Node]) -> list[Node]:
        """Whom a read asks, in order; without a key any servers, as many as a key has."""
        nodes = random.sample(self._nodes, len(self._nodes)) if key is None else self.owners(key)
        if away:
            nodes = [node for node in nodes if node not in away] or nodes
        return nodes[: self.copies]

    def _away(self) -> list[Node]:
        return [node for node in self._nodes if not self._lives(node)]

    def _lives(self, node: Node) -> bool:
        if node.down is not None:
            return False
        since = self._silent_since.get(node)
        if since is None:
            return True
        if node.busy and not any(each.heard_at > since for each in node.connections):
            return False
        del self._silent_since[node]
        return True

    # -- calls

    async def call(
        self,
        key: bytes | None,
        command: Command,
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,  # noqa: ARG002 - copies are equals
    ) -> Reply:
        if self.copies == 1 and key is not None:
            [node] = self.owners(key)
            try:
                return await node.call(command, deadline, write=write, bulk=bulk)
            except ServerError as error:
                raise as_unavailable(error, node.name) from None
        [reply] = await self.execute([command], [key], deadline, write=write, bulk=bulk)
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
        replica: bool = False,  # noqa: ARG002 - copies are equals
    ) -> list[Reply]:
        work = Work(commands, keys, deadline, write, bulk)
        if write and self.copies > 1:
            return await self._on_all(work)
        return await self._on_one(work)

    async def _on_one(self, work: Work) -> list[Reply]:
        """Ask one owner of each key, and the next one where that one can't be reached."""
        replies: list[Reply] = [None] * len(work.keys)
        away = self._away() if self.copies > 1 or None in work.keys else ()
        asked = [self._asked(key, away) for key in work.keys]
        places: Sequence[int] = range(len(replies))
        for turn in range(self.copies):
            parts = grouped([(asked[place][turn], place) for place in places])
            left = work.deadline - self._now()
            sending = []
            for node, group in parts:
                owners_left = max(len(asked[place]) - turn for place in group)
                until = self._now() + left / owners_left
                sending.append(self._send(node, work, group, until))
            answers = await asyncio.gather(*sending)
            for (_, group), answer in zip(parts, answers, strict=True):
                for place, reply in zip(group, answer, strict=True):
                    replies[place] = reply
            places = [
                place
                for place in places
                if isinstance(replies[place], BackendUnavailable) and len(asked[place]) > turn + 1
            ]
            if not places or self._now() >= work.deadline:
                break
        return replies

    async def _on_all(self, work: Work) -> list[Reply]:
        """Write to all owners of each key at once; what has no key goes to one server."""
        away = self._away()
        owners = [
            self._asked(key, away)[:1] if key is None else self.owners(key) for key in work.keys
        ]
        parts = grouped([(node, place) for place, nodes in enumerate(owners) for node in nodes])
        answers = await asyncio.gather(
            *[self._send(node, work, group, work.deadline) for node, group in parts]
        )
        said = {
            node: dict(zip(group, answer, strict=True))
            for (node, group), answer in zip(parts, answers, strict=True)
        }
        return [
            _agreed([said[node][place] for node in nodes]) for place, nodes in enumerate(owners)
        ]

    async def _send(
        self, node: Node, work: Work, places: Sequence[int], until: float
    ) -> list[Reply]:
        commands = [work.commands[place] for place in places]
        try:
            replies = await node.calls(commands, until, write=work.write, bulk=work.bulk)
        except BackendUnavailable as error:
            if node.down is None:
                self._silent_since[node] = self._now()
            return [error] * len(places)
        return put_unavailable(replies, node.name)

    def replicas_of(self, node: Node) -> int | None:  # noqa: ARG002 - nobody promotes one
        return 0

    async def names(self, node: Node, deadline: float) -> bool:  # noqa: ARG002
        return node in self._nodes

    # -- shares

    def shares(self) -> list[str]:
        return list(self._by_name)

    def places(self, share: str) -> list[Place]:
        """Its own server; where that is away and there are copies, all others have some of it."""
        first = self._by_name.get(share)
        if first is None:
            raise no_share(share, next(iter(self._by_name)))
        nodes = [first]
        if self.copies > 1 and not self._lives(first):
            nodes = [node for node in self._nodes if self._lives(node)] or nodes

        def has(name: bytes) -> bool:
            return self._ring.owners(name)[0] == share

        return [Place(share, node, has) for node in nodes]

    async def followed(self, place: Place, deadline: float) -> list[Place]:  # noqa: ARG002
        return []

    # -- life

    def replicas(self, primary: Node) -> Sequence[Node]:  # noqa: ARG002 - they are not asked
        return ()

    async def start(self, deadline: float) -> None:
        opening = [
            asyncio.create_task(_reached(node, deadline), name="clusterdb-cache: reach a server")
            for node in self._nodes
        ]
        reasons: list[str] = []
        try:
            for reached in asyncio.as_completed(opening):
                reason = await reached
                if reason is None:
                    return  # the others may take their time
                reasons.append(reason)
        finally:
            for task in opening:
                task.cancel()
            await asyncio.wait(opening)
        raise BackendUnavailable("no server of the ring can be reached: " + "; ".join(reasons))

    async def refresh(self, deadline: float) -> None:
        await self.start(deadline)

    async def aclose(self) -> None:
        for node in self._nodes:
            await node.aclose()

    def forked(self) -> None:
        self._silent_since.clear()
        for node in self._nodes:
            node.forked()


def address_on_ring(where: Endpoint) -> str:
    """The name by which a server is placed: its address, and its database if that is not 0."""
    return f"{where.name}/{where.database}" if where.database else where.name


def copies_in(topology: Topology) -> int:
    """On how many servers a write of this client is done: 1, but on a ring of more copies."""
    return topology.copies if isinstance(topology, Ring) else 1


def grouped(pairs: Sequence[tuple[Node, int]]) -> list[tuple[Node, list[int]]]:
    """Which places each server gets."""
    groups: dict[Node, list[int]] = {}
    for node, place in pairs:
        groups.setdefault(node, []).append(place)
    return list(groups.items())


def _agreed(replies: Sequence[Reply]) -> Reply:
    """What a write came to, from what each owner replied, in the order of the ring."""
    failed = [reply for reply in replies if isinstance(reply, Exception)]
    if not failed:
        return replies[0]
    for error in failed:
        if isinstance(error, ServerError) and error.code == _UNKNOWN_SCRIPT:
            return error  # whoever sent it knows the script, and sends all of it again
    done = [reply for reply in replies if not isinstance(reply, Exception)]
    if done:
        why = "; ".join(map(str, failed))
        return Degraded(len(done), len(replies), why, reply=done[0])
    return min(failed, key=_certainty)


def _certainty(error: Exception) -> int:
    """Which of several failures says most: one that may be a success, else what a server said."""
    if isinstance(error, OutcomeUnknown):
        return 0
    return 1 if isinstance(error, ServerError) else 2


async def _reached(node: Node, deadline: float) -> str | None:
    """Why ``node`` can't be reached, if so."""
    try:
        await node.connection(deadline)
    except BackendUnavailable as error:
        return str(error)
    return None
