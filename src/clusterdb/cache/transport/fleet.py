"""The servers of a topology that changes: one `Node` an address, made when first needed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ..config import PoolConfig
from .connection import Connection
from .endpoint import Endpoint
from .node import Node
from .slots import Address

__all__ = ["Fleet"]


class Fleet:
    """Nodes by address; all of them use the login of ``login``."""

    def __init__(
        self,
        login: Endpoint,
        pool: PoolConfig,
        now: Callable[[], float],
        on_push: Callable[[Connection, list[Any]], None] | None,
    ) -> None:
        self._login = login
        self._pool = pool
        self._now = now
        self._on_push = on_push
        self._nodes: dict[tuple[Address, bool], Node] = {}
        self._leaving: list[Node] = []

    def at(self, address: Address, *, replica: bool = False) -> Node:
        """The node at ``address``; as a ``replica`` it is asked to answer reads itself."""
        node = self._nodes.get((address, replica))
        if node is None:
            where = self._login.at(*address, replica=replica)
            push = None if replica else self._on_push
            node = self._nodes[address, replica] = Node(where, self._pool, self._now, on_push=push)
        return node

    def keep(self, wanted: Collection[Node]) -> None:
        """Retire every other node: what is under way there may end."""
        self._leaving = [node for node in self._leaving if node.busy]
        for place, node in list(self._nodes.items()):
            if node not in wanted:
                del self._nodes[place]
                node.retire()
                self._leaving.append(node)

    async def aclose(self) -> None:
        """Close every node."""
        for node in [*self._nodes.values(), *self._leaving]:
            await node.aclose()

    def forked(self) -> None:
        """In the child of a fork: forget the parent's connections."""
        for node in [*self._nodes.values(), *self._leaving]:
            node.forked()
        self._leaving.clear()
