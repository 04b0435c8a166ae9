"""The way to the servers: deadlines, scripts that a server has forgotten, and replication.

Replies come in the order of the commands, errors among them, as a topology gives them. What a
server refused with ``NOSCRIPT`` was not carried out and is sent again, with the script's text.

**Replication** (``WAIT``) counts the writes of the connection that waits, and stops whatever is
behind it on that connection. Replicas take a primary's writes in one order, so what is waited for
is a small write of ours on a connection of its own, sent after the reply to the writes that it
stands for. Those who write at the same time share one such wait a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from ...clock import Clock
from ...config import PartitioningConfig, Redis
from ...errors import BackendUnavailable, CacheError, Degraded, ServerError
from ...failpoints import FAILPOINTS, hit
from ...transport import Command, Node, Reply, Topology, slot_of, topology_for
from ...transport.placed import in_motion, placement_problems, together
from .guarding import RingGuard
from .names import Names
from .scripts import resent

__all__ = ["BULK_BYTES", "MARKER_LIVES", "Link", "explained", "raised_if_away", "seen"]

T = TypeVar("T")

BULK_BYTES: Final = 64 * 1024
"""A value of this size travels on a connection of its own."""

MARKER_LIVES: Final = 60_000
"""Milliseconds after which what was written under a marker is gone."""

_REMEDIES: Final = {
    "OOM": "its maxmemory is reached: raise it, or let the server evict (maxmemory-policy)",
    "NOPERM": "give the user of backend.username permission for it, and for the keys of this cache",
    "READONLY": "it is a replica: connect to the primary, or through Sentinel or Cluster",
    "MISCONF": "the server can't save to its disk and refuses writes",
    "MOVED": "it belongs to a Redis Cluster: set cluster: true in backend",
    "NOREPLICAS": "the server has fewer replicas than its min-replicas-to-write",
}


class Link:
    """The connections of one backend. ``copies``, which may change, is how many servers must have
    each write before it counts, the primary among them; ``on_each`` on how many servers of a ring
    we write it; ``on_written`` is told of keys that were written, or may have been. ``placed``: the
    keys of a ring are where the servers' placement has them, which may be another than configured.
    """

    def __init__(
        self,
        config: Redis,
        partitioning: PartitioningConfig,
        clock: Clock,
        names: Names,
        *,
        placed: bool = True,
    ) -> None:
        self.now = clock.now
        self.timeout = config.pool.timeout
        self._config = config
        self._partitioning = partitioning
        self._names = names
        self._label = f"clusterdb-cache:{names.cache}" if placed and config.is_ring else ""
        self.copies = 1
        self.on_each = partitioning.strategy.replicas if config.is_ring else 1
        self.on_written: Callable[[Sequence[bytes]], None] | None = None
        self._topology: Topology | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._waits: dict[Node, asyncio.Task[None]] = {}
        self._next_waits: dict[Node, asyncio.Task[None]] = {}
        self._markers: dict[Node, tuple[int, bytes]] = {}

    def together(self, keys: Sequence[bytes]) -> bool:
        """Whether one script may change all of ``keys``."""
        if self._config.cluster:
            return len({slot_of(key) for key in keys}) <= 1
        if self._config.is_ring:
            same_first = together(self.topology, keys)
            return same_first and (self.on_each == 1 or len(keys) <= 1)  # others may differ
        return True

    def in_motion(self, name: bytes) -> bool:
        """Whether a key is getting another server of a ring: then nothing is asked past `send`."""
        return bool(self._label) and in_motion(self.topology, name)

    # -- life

    async def open(self) -> None:
        """Find the servers; raises `BackendUnavailable`."""
        loop = asyncio.get_running_loop()
        if self._topology is None or self._loop is not loop:
            self._waits, self._next_waits = {}, {}
            self._loop, self._topology = (
                loop,
                topology_for(
                    self._config,
                    self.now,
                    partitioning=self._partitioning,
                    client_name=self._label or "clusterdb-cache",
                    guard=RingGuard(self._names, self._label) if self._label else None,
                ),
            )
            self._keeper = asyncio.create_task(
                _keep(self._topology), name="clusterdb-cache: connections"
            )
        await self._topology.start(self.deadline())

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        keeper, self._keeper, self._topology = self._keeper, None, None
        if keeper is None or self._loop is not asyncio.get_running_loop():
            return
        tasks = [keeper, *self._waits.values(), *self._next_waits.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def forked(self) -> None:
        """In the child of a fork: forget the connections without a word to the servers."""
        topology, self._topology, self._keeper = self._topology, None, None
        self._waits, self._next_waits = {}, {}
        if topology is not None:
            topology.forked()

    @property
    def topology(self) -> Topology:
        """Who has which key. Raises `BackendUnavailable` while closed."""
        if self._topology is None:
            raise BackendUnavailable("the connections to Redis are closed; open the backend first")
        return self._topology

    @property
    def problems(self) -> list[str]:
        """Sentences for a person: servers where writes without an answer can't be stopped, and what
        the servers of a ring know better than the configuration.
        """
        unsettled = [node.unsettled for node in self.topology.nodes() if node.unsettled]
        return [*unsettled, *placement_problems(self.topology)]

    def deadline(self) -> float:
        """When a call that begins now must have ended."""
        return self.now() + self.timeout

    # -- calls

    async def get(self, name: bytes, deadline: float, bulk: bool) -> Reply:
        """The value of one key, or the server's error. Cost: one round trip.

        Most go straight to the server that has the key. What fails so is asked for by the topology,
        which knows how to go on.
        """
        topology, command = self.topology, ("GET", name)
        straight = self.on_each == 1  # else a silent owner must leave time for the next one
        if straight and not (self._label and self.in_motion(name)):
            try:
                asked = topology.node_for(name).ask(command, deadline, bulk=bulk)
                if asked is not None:
                    return await asked
            except ServerError:
                pass
            except BackendUnavailable:
                if self.now() >= deadline:
                    raise
        try:
            return await topology.call(name, command, deadline, bulk=bulk)
        except ServerError as error:
            return error

    async def look(self, name: bytes, deadline: float, *, bulk: bool = False) -> list[Reply]:
        """Value and ``PTTL`` of one key. Cost: one round trip."""
        topology = self.topology
        commands: tuple[Command, Command] = (("GET", name), ("PTTL", name))
        if self.on_each > 1 or (self._label and self.in_motion(name)):
            # A silent owner must leave time for the next one, and one that a key leaves is asked
            # in another way.
            return await topology.execute(commands, (name, name), deadline, bulk=bulk)
        try:
            found = await topology.node_for(name).calls(commands, deadline, bulk=bulk)
        except BackendUnavailable:
            pass
        else:
            if type(found[1]) is int and type(found[0]) is not ServerError:
                return found
        return await topology.execute(commands, (name, name), deadline, bulk=bulk)

    async def send(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes],
        *,
        write: bool = False,
        bulk: bool = False,
        deadline: float | None = None,
        replicated: bool = True,
        written: Sequence[bytes] | None = None,
    ) -> list[Reply]:
        """The replies to commands, each about the key at its place, and about others of the same
        server: then all are ``written``. Cost: one round trip a server; one more where a script is
        new to a server, or writes have to be ``replicated``.
        """
        if deadline is None:
            deadline = self.deadline()
        if self.on_each > 1:  # one owner may know a script, and another not
            commands = [resent(each) if each[0] == "EVALSHA" else each for each in commands]
        waits = write and replicated and self.copies > 1
        owners = self._owners(keys) if waits else []
        replies = await self._send(commands, keys, deadline, write, bulk)
        unknown = [
            at
            for at, reply in enumerate(replies)
            if type(reply) is ServerError and reply.code == "NOSCRIPT"
        ]
        if unknown:
            again = await self._send(
                [resent(commands[at]) for at in unknown],
                [keys[at] for at in unknown],
                deadline,
                write,
                bulk,
            )
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        if write and self.on_written is not None:
            self.on_written(keys if written is None else written)
        if waits:
            await self._replicate(keys, owners, replies, deadline)
        return replies

    async def _send(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes],
        deadline: float,
        write: bool,
        bulk: bool,
    ) -> list[Reply]:
        topology = self.topology
        if len(commands) != 1:
            return await topology.execute(commands, keys, deadline, write=write, bulk=bulk)
        try:
            return [await topology.call(keys[0], commands[0], deadline, write=write, bulk=bulk)]
        except (ServerError, BackendUnavailable) as error:
            return [error]

    async def store(self, command: Command, name: bytes, deadline: float, bulk: bool) -> None:
        """A plain write of one key. Raises what the server, or its absence, says."""
        owners = self._owners([name]) if self.copies > 1 else []
        try:
            await self.topology.call(name, command, deadline, write=True, bulk=bulk)
        except ServerError as error:
            raise explained(error) from None
        finally:
            if self.on_written is not None:
                self.on_written([name])
        if owners:
            replies: list[Reply] = [None]
            await self._replicate([name], owners, replies, deadline)
            if replies[0] is not None:
                raise replies[0]

    # -- replication

    def _owners(self, keys: Sequence[bytes]) -> list[Node | None]:
        """The primary of each key, as far as it is known now."""
        owners: list[Node | None] = []
        for key in keys:
            try:
                owners.append(self.topology.node_for(key))
            except BackendUnavailable:
                owners.append(None)
        return owners

    async def _replicate(
        self,
        keys: Sequence[bytes],
        owners: Sequence[Node | None],
        replies: list[Reply],
        deadline: float,
    ) -> None:
        """Wait until what was carried out has its copies; where it has not, say so in place.

        The replicas of a primary that has taken another's place answer for nothing that the other
        did: so who has a key must be who had it before it was written.
        """
        if FAILPOINTS:
            await hit("after-write-before-replicas")
        places: dict[Node, list[int]] = {}
        now = self._owners(keys)
        for at, (before, owner, reply) in enumerate(zip(owners, now, replies, strict=True)):
            if isinstance(reply, Exception):
                continue
            if owner is None or owner is not before:
                reason = "its server was replaced meanwhile"
                replies[at] = Degraded(1, self.copies, reason, reply=reply)
            else:
                places.setdefault(owner, []).append(at)
        waits = [self._joined_wait(node, deadline) for node in places]
        results = await asyncio.gather(*waits, return_exceptions=True)
        for found, error in zip(places.values(), results, strict=True):
            if isinstance(error, BaseException):
                for at in found:
                    replies[at] = error

    async def _joined_wait(self, node: Node, deadline: float) -> None:
        """The end of the next wait for a server's replicas, one for all who ask meanwhile."""
        task = self._next_waits.get(node)
        if task is None:
            task = asyncio.create_task(
                self._wait(node, self._waits.get(node)), name="clusterdb-cache: replication"
            )
            task.add_done_callback(seen)
            self._next_waits[node] = task
        await asyncio.wait([task], timeout=max(0.0, deadline - self.now()))
        if not task.done() or task.cancelled():
            raise Degraded(1, self.copies, f"{node.name} has not heard of its replicas in time")
        await task

    async def _wait(self, node: Node, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        task = self._next_waits.pop(node)
        self._waits[node] = task
        try:
            await self._wait_for_replicas(node, self.deadline())
        finally:
            if self._waits.get(node) is task:
                del self._waits[node]

    async def _wait_for_replicas(self, node: Node, deadline: float) -> None:
        wanted = self.copies - 1
        patience = max(1, int((deadline - self.now()) * 800))
        try:
            write = ("SET", self.marker(node), "", "PX", MARKER_LIVES)
            async with node.exclusive(deadline) as connection:
                done, acks = await connection.calls(
                    [write, ("WAIT", wanted, patience)], deadline, write=True
                )
        except BackendUnavailable as error:
            raise Degraded(1, self.copies, f"its replicas can't be asked: {error}") from error
        for reply in (done, acks):
            if isinstance(reply, Exception):
                raise Degraded(1, self.copies, f"{node.name}: {reply}") from reply
        if acks < wanted:
            raise Degraded(1 + acks, self.copies, f"{node.name} misses replicas")

    def marker(self, node: Node) -> bytes:
        """A key of ours on a server, for small writes and reads that are about the server. Raises
        `BackendUnavailable` for one that has no keys.
        """
        topology = self.topology
        version, marker = self._markers.get(node, (-1, b""))
        if version != topology.version:
            found = self._names.marker(lambda name: topology.node_for(name) is node)
            if found is None:
                raise BackendUnavailable(f"{node.name} has no slot any more")
            marker = found
            self._markers[node] = (topology.version, marker)
        return marker


async def _keep(topology: Topology) -> None:
    """Close the connections when cancelled: by us, or by the end of the loop's ``asyncio.run``."""
    ended: asyncio.CancelledError | None = None
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError as error:
        ended = error
    await topology.aclose()
    if ended is not None:
        raise ended


def seen(future: asyncio.Future[Any]) -> None:
    """Look at the error, which those who wait raise, so that nothing is logged if nobody does."""
    if not future.cancelled():
        future.exception()


def raised_if_away(outcomes: list[T]) -> list[T]:
    """``outcomes``, or the first where all of them say that the servers are away."""
    if outcomes and all(isinstance(outcome, BackendUnavailable) for outcome in outcomes):
        raise outcomes[0]  # type: ignore[misc]
    return outcomes


def explained(error: CacheError) -> CacheError:
    """A server's error with its remedy."""
    if type(error) is not ServerError:
        return error
    remedy = _REMEDIES.get(error.code)
    return error if remedy is None else ServerError(f"{error}; {remedy}")
