"""Moves of slots in a Redis Cluster, by the servers' own commands, while it is used.

The order is that of the specification: the target imports, the source migrates, keys go over with
``MIGRATE``, then the target owns the slot, the source learns of it, and the others. Until then the
source serves what it still has and sends clients to the target for the rest (``ASK``), so at each
moment one server decides on a key. Each step may be done again: a slot that was left open, by a
process that died or by a server that did, is found in ``CLUSTER NODES`` and gone on with.

A key that is on both sides, as after a ``MIGRATE`` whose answer was lost, is the source's: clients
are only sent to the target for what the source has not. Source: Redis Cluster specification,
"Live reshard"; what ``redis-cli --cluster reshard`` and ``fix`` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ...errors import BackendUnavailable, CacheError, ServerError
from ...partition import part_moves
from ...transport import Command, Node
from ...transport.cluster import Cluster
from ...transport.clusternodes import ClusterNode, cluster_nodes
from ...transport.slots import Address
from ...upkeep import Balance, Move
from .link import Link, explained

__all__ = ["Resharding", "not_taken"]

_COUNTED_AT_ONCE: Final = 2_000
_MOVED_AT_ONCE: Final = 50
_WITHIN: Final = 0.8
"""The part of a call's deadline that a server gets for one ``MIGRATE``."""


class Resharding:
    """The slots of the cluster that ``link`` leads to."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def _cluster(self) -> Cluster:
        topology = self._link.topology
        assert isinstance(topology, Cluster), "it is made for a cluster only"
        return topology

    # -- looking

    async def primaries(self) -> dict[str, ClusterNode]:
        """The primaries that work, by name, each as it sees itself: also those without slots."""
        found: dict[str, ClusterNode] = {}
        for each in await self._seen():
            if each.primary and each.works:
                lines = await self._seen_by(self._node(each))
                [itself] = [line for line in lines if line.myself]
                if itself.primary:
                    found[each.name] = itself._replace(address=each.address)
        return found

    async def _seen(self) -> Sequence[ClusterNode]:
        """The servers, as the first one sees them that can be asked."""
        reasons: list[str] = []
        for node in self._cluster.nodes():
            try:
                return await self._seen_by(node)
            except BackendUnavailable as error:
                reasons.append(str(error))
        raise BackendUnavailable("no server of the cluster can be asked: " + "; ".join(reasons))

    async def balance(self, threshold: float) -> Balance:
        parts = {
            name: await self._counts(found) for name, found in (await self.primaries()).items()
        }
        moves, least = part_moves(parts, threshold)
        return Balance(
            loads={name: sum(mine.values()) for name, mine in parts.items()},
            moves=tuple(
                [
                    Move(part=each.part, source=each.source, target=each.target, keys=each.keys)
                    for each in moves
                ]
            ),
            least=least,
        )

    async def unfinished(self) -> list[Move]:
        found = await self.primaries()
        names = {each.id: name for name, each in found.items()}
        owners = {slot: name for name, each in found.items() for slot in each.slots}
        moves: dict[int, Move] = {}
        for name, each in found.items():
            for slot, other in each.migrating.items():
                target = names.get(other) or await self._holder(slot, name, found)
                moves[slot] = Move(part=slot, source=name, target=target or name)
        for name, each in found.items():
            for slot in each.importing:
                source = owners.get(slot)
                if slot not in moves and source is not None and source != name:
                    moves[slot] = Move(part=slot, source=source, target=name)
        return list(moves.values())

    async def _holder(self, slot: int, source: str, found: dict[str, ClusterNode]) -> str | None:
        """Who has keys of a slot whose target is gone: the replica that took its place."""
        for name, each in found.items():
            if name != source and await self._ask(each, ("CLUSTER", "COUNTKEYSINSLOT", slot)):
                return name
        return None

    async def _counts(self, found: ClusterNode) -> dict[int, int]:
        counts: dict[int, int] = {}
        node = self._node(found)
        for at in range(0, len(found.slots), _COUNTED_AT_ONCE):
            slots = found.slots[at : at + _COUNTED_AT_ONCE]
            commands: list[Command] = [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
            replies = await node.calls(commands, self._link.deadline())
            counts.update(zip(slots, map(_raised, replies), strict=True))
        return counts

    # -- moving

    async def move(self, move: Move, limit: int) -> tuple[int, bool]:
        found = await self.primaries()
        source, target = found.get(move.source), found.get(move.target)
        if source is None or target is None:
            gone = move.source if source is None else move.target
            raise BackendUnavailable(
                f"slot {move.part} can't move: {gone} is no primary that works; once one is there "
                f"again, 'cache maintenance rebalance' ends the move"
            )
        slot = move.part
        if source is target:  # its target is gone, and nobody has keys of it
            await self._ask(source, ("CLUSTER", "SETSLOT", slot, "STABLE"))
            return 0, True
        if slot in source.slots:
            await self._open(slot, source, target)
            moved = await self._migrate(slot, source, target, min(limit, _MOVED_AT_ONCE))
            if moved:
                return moved, False
        await self._close(slot, target, found.values())
        return 0, True

    async def _open(self, slot: int, source: ClusterNode, target: ClusterNode) -> None:
        if target.importing.get(slot) != source.id and slot not in target.slots:
            await self._ask(target, ("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id))
        if source.migrating.get(slot) != target.id:
            await self._ask(source, ("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id))

    async def _migrate(
        self, slot: int, source: ClusterNode, target: ClusterNode, limit: int
    ) -> int:
        keys = await self._ask(source, ("CLUSTER", "GETKEYSINSLOT", slot, limit))
        if not keys:
            return 0
        node = self._node(source)
        host, port = target.address
        patience = int(self._link.timeout * 1000 * _WITHIN)
        command: list[Any] = ["MIGRATE", host, port, "", 0, patience, "REPLACE"]
        login = node.endpoint
        if login.password is not None:
            named = login.username is not None
            command += ["AUTH2", login.username] if named else ["AUTH"]
            command.append(login.password)
        command += ["KEYS", *keys]
        try:
            await node.call(tuple(command), self._link.deadline(), write=True, bulk=True)
        except ServerError as error:
            raise not_taken(error, slot, target) from None
        return len(keys)

    async def _close(self, slot: int, target: ClusterNode, found: Any) -> None:
        """Give the slot to its target, which has to be the first to know of it."""
        command: Command = ("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        await self._ask(target, command)
        for other in found:
            if other.id != target.id:
                await self._ask(other, command)

    # -- asking

    def _node(self, found: ClusterNode) -> Node:
        return self._cluster.server(found.address)

    async def _ask(self, found: ClusterNode, command: Command) -> Any:
        try:
            return await self._node(found).call(command, self._link.deadline(), write=True)
        except ServerError as error:
            raise explained(error) from None

    async def _seen_by(self, node: Node) -> Sequence[ClusterNode]:
        try:
            text = await node.call(("CLUSTER", "NODES"), self._link.deadline())
        except ServerError as error:
            raise explained(error) from None
        asked = Address(node.endpoint.host, node.endpoint.port)
        return cluster_nodes(text.decode(), asked)


def not_taken(error: ServerError, slot: int, target: ClusterNode) -> CacheError:
    """Why keys stayed where they are: a server that lost the target does not say which it was."""
    if error.code != "IOERR":
        return explained(error)
    return BackendUnavailable(
        f"{target.name} took no keys of slot {slot} ({error}): start it, or let a replica take its "
        f"place, and give rediss:// URLs where servers speak TLS to each other (tls-cluster); the "
        f"next run goes on where this one ended"
    )


def _raised(reply: Any) -> int:
    if isinstance(reply, CacheError):
        raise reply
    return int(reply)
