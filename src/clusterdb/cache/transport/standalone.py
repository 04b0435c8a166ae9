"""The simplest topology: one server has every key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ..errors import BackendUnavailable, ServerError
from .connection import Command, Reply
from .node import Node
from .refusals import as_unavailable, put_unavailable
from .shares import ALL, Place, whole

__all__ = ["Standalone"]


class Standalone:
    """One server. See `Topology`."""

    version = 0
    promotes: ClassVar[bool] = False

    def __init__(self, node: Node) -> None:
        self._node = node

    def nodes(self) -> list[Node]:
        return [self._node]

    def node_for(self, key: bytes) -> Node:  # noqa: ARG002 - the same for every key
        return self._node

    def replicas_of(self, node: Node) -> int | None:  # noqa: ARG002 - nobody promotes one
        return 0

    async def names(self, node: Node, deadline: float) -> bool:  # noqa: ARG002
        return node is self._node

    def shares(self) -> list[str]:
        return [ALL]

    def places(self, share: str) -> list[Place]:
        return whole(share, self._node)

    async def followed(self, place: Place, deadline: float) -> list[Place]:  # noqa: ARG002
        return []

    def replicas(self, primary: Node) -> Sequence[Node]:  # noqa: ARG002 - they are not asked
        return ()

    async def start(self, deadline: float) -> None:
        await self._node.connection(deadline)

    async def call(
        self,
        key: bytes | None,  # noqa: ARG002 - the same for every key
        command: Command,
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,  # noqa: ARG002 - there is none
    ) -> Reply:
        try:
            return await self._node.call(command, deadline, write=write, bulk=bulk)
        except ServerError as error:
            raise as_unavailable(error, self._node.name) from None

    async def execute(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes | None],  # noqa: ARG002 - the same for every key
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,  # noqa: ARG002 - there is none
    ) -> list[Reply]:
        try:
            replies = await self._node.calls(commands, deadline, write=write, bulk=bulk)
        except BackendUnavailable as error:
            return [error] * len(commands)
        return put_unavailable(replies, self._node.name)

    async def refresh(self, deadline: float) -> None:
        await self._node.connection(deadline)

    async def aclose(self) -> None:
        await self._node.aclose()

    def forked(self) -> None:
        self._node.forked()
