"""Which server has which key: one face for a single server, Sentinel, Cluster and a ring.

A topology takes commands with the key that each is about, sends them to the servers that hold
these keys, one round trip a server whatever their number, and gives the replies in order. It
follows the servers where they move, and keeps to the rule of retries of `Node`: what was written
and may have changed something is never sent again, unless the server said that it did not do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from ..config import PartitioningConfig, Redis
from .connection import Command, Connection, Reply
from .endpoint import endpoints, sentinels
from .guard import Guard
from .node import Node
from .shares import Place

__all__ = ["Topology", "topology_for"]


class Topology(Protocol):
    """The servers of one backend. Used in one event loop; whoever made it closes it.

    ``promotes``: somebody may put another server in the place of a primary, which itself may not
    hear of it.
    """

    promotes: ClassVar[bool]

    @property
    def version(self) -> int:
        """Grows whenever a key may have got another primary."""
        ...

    def nodes(self) -> list[Node]:
        """The primaries, each once."""
        ...

    def node_for(self, key: bytes) -> Node:
        """The primary of ``key``, as far as known; raises `BackendUnavailable` if it is not."""
        ...

    def replicas_of(self, node: Node) -> int | None:
        """How many servers could be put in the place of a primary; ``None`` where that is not
        known now. No I/O.
        """
        ...

    async def names(self, node: Node, deadline: float) -> bool:
        """Whether those who decide on it, asked now, name ``node`` as a primary by a majority.
        Where nobody decides, it is. Cost: one round trip to each of them.
        """
        ...

    def shares(self) -> list[str]:
        """The names of what can be read side by side: shares of the keys, as the servers have them
        now. Together they are all keys, and stay so. No I/O.
        """
        ...

    def places(self, share: str) -> list[Place]:
        """Where the keys of a share are now. Raises `InvalidArgument` for a share that there is
        not, `BackendUnavailable` if nobody has it.
        """
        ...

    async def followed(self, place: Place, deadline: float) -> list[Place]:
        """Where keys of ``place`` may have gone since it was looked at: to be looked at next, so
        that none is missed. Cost: one round trip, where keys move at all.
        """
        ...

    def replicas(self, primary: Node) -> Sequence[Node]:
        """The replicas of ``primary`` that may be asked for reads, as far as they are known."""
        ...

    async def start(self, deadline: float) -> None:
        """Find the servers and reach one; raises `BackendUnavailable` that says why not."""
        ...

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
        """The reply to one command about ``key``; without a key any primary may answer.

        ``write`` says that it may change something, ``bulk`` that it or its reply is large,
        ``replica`` that a replica may answer, whose data may be old. Raises `ServerError`,
        `BackendUnavailable`, `OutcomeUnknown`. Cost: one round trip; more where keys move.
        """
        ...

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
        """The replies to commands, each about the key at the same place, in order.

        Nothing is raised: in the place of each command that failed stands its error, a
        `ServerError`, `BackendUnavailable` or `OutcomeUnknown`. Commands to one server keep their
        order. Cost: one round trip a server, at the same time; more where keys move.
        """
        ...

    async def refresh(self, deadline: float) -> None:
        """Ask the servers where they are now. Raises `BackendUnavailable` when none answers."""
        ...

    async def aclose(self) -> None:
        """Close every connection, end every task. Idempotent."""
        ...

    def forked(self) -> None:
        """In the child of a fork: forget the parent's connections and tasks."""
        ...


def topology_for(
    config: Redis,
    now: Callable[[], float],
    *,
    partitioning: PartitioningConfig = PartitioningConfig(),  # noqa: B008 - it is a constant
    client_name: str = "",
    on_push: Callable[[Connection, list[Any]], None] | None = None,
    guard: Guard | None = None,
) -> Topology:
    """The topology that ``config`` describes. Reads TLS files, connects to nothing.

    ``partitioning`` places the keys on the servers of a ring; the others place them themselves.
    With a ``guard`` a ring of single copies follows the placement that its servers keep.
    """
    if config.sentinel is not None:
        from .sentinel import Sentinel

        asked, login = sentinels(config, config.sentinel, client_name)
        return Sentinel(config.sentinel.master, asked, login, config.pool, now, on_push=on_push)
    where = endpoints(config, client_name)
    if config.cluster:
        from .cluster import Cluster

        return Cluster(where, config.pool, now, on_push=on_push)
    if config.is_ring:
        from .placed import PlacedRing
        from .ring import Ring

        strategy = partitioning.strategy
        if guard is not None and strategy.replicas == 1:
            return PlacedRing(where, config.pool, strategy, now, guard, on_push=on_push)
        return Ring(where, config.pool, strategy, now, on_push=on_push)
    from .standalone import Standalone

    return Standalone(Node(where[0], config.pool, now, on_push=on_push))
