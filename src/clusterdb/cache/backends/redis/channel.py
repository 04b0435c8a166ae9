"""Channels of messages over Redis publish/subscribe: fast, and forgetful.

The subscription has a connection of its own: a server that drops it, as it does with a reader that
is 32 MB behind, must not end calls. A `PING` each second shows that it still lives. Whatever was
published while there was none is lost, so every connection but the first begins with the word that
something may have been missed.

One server carries the channel: the one that the name's key would be on. In a Cluster any would do;
but processes must agree on one on a ring. Where that server changes, the subscription follows.
Sources: "Redis Pub/Sub", and the RESP3 specification for pushes, redis.io.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace

from ...clock import Clock
from ...config import PartitioningConfig, Redis
from ...errors import BackendUnavailable, CacheError, ServerError
from ...protocols import ChannelReceiver
from ...transport import Connection, Node
from .link import Link, explained
from .names import Names

__all__ = ["RedisPubSub", "channel_link", "look_again"]

_CHECK_EVERY: Final = 1.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


def channel_link(server: Redis, name: str, clock: Clock) -> Link:
    """Connections for the channel of the cache called ``name``, made when needed, and few."""
    pool = replace(server.pool, min_connections=0, max_connections=2)
    config = replace(server, pool=pool)
    return Link(config, PartitioningConfig(), clock, Names(name), placed=False)


class RedisPubSub:
    """The channel ``name``. See :class:`Channel`."""

    def __init__(self, link: Link, name: str) -> None:
        self._link = link
        self._name = name.encode()

    async def send(self, messages: Sequence[bytes]) -> None:
        await self._link.open()
        commands = [("PUBLISH", self._name, message) for message in messages]
        keys = [self._name] * len(commands)
        for reply in await self._link.send(commands, keys, write=True, replicated=False):
            if isinstance(reply, CacheError):
                raise explained(reply)

    async def listen(self, receiver: ChannelReceiver) -> None:
        pause, missed = _FIRST_PAUSE, False
        while True:
            lost = asyncio.Event()
            connection: Connection | None = None
            try:
                await self._link.open()
                node = self._link.topology.node_for(self._name)
                connection = await self._subscribed(node, receiver, lost)
                receiver.connected(missed=missed)
                pause = _FIRST_PAUSE
                await _lasting(self._link, self._name, node, connection, lost)
            except (BackendUnavailable, ServerError) as error:
                receiver.disconnected(str(explained(error)))
            finally:
                if connection is not None:
                    connection.abort("the subscription ended")
            missed = True
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
            await look_again(self._link)

    async def _subscribed(
        self, node: Node, receiver: ChannelReceiver, lost: asyncio.Event
    ) -> Connection:
        def pushed(_: Connection, push: list[Any]) -> None:
            if push[0] == b"message" and push[1] == self._name:
                receiver.received([push[2]])

        deadline = self._link.deadline()
        connection = await node.open(deadline, on_push=pushed, on_lost=lambda _: lost.set())
        try:
            await connection.subscribe(("SUBSCRIBE", self._name), deadline)
        except BaseException:
            connection.abort("it could not subscribe")
            raise
        return connection

    async def aclose(self) -> None:
        await self._link.aclose()

    def forked(self) -> None:
        self._link.forked()


async def _lasting(
    link: Link, name: bytes, node: Node, connection: Connection, lost: asyncio.Event
) -> None:
    """Wait while a connection lives and its server is the right one; then raise
    `BackendUnavailable` that says why not.
    """
    while True:
        try:
            async with asyncio.timeout(_CHECK_EVERY):
                await lost.wait()
            raise BackendUnavailable(connection.lost or "the connection was lost")
        except TimeoutError:
            pass
        if link.topology.node_for(name) is not node:
            raise BackendUnavailable(f"{node.name} does not carry the channel any more")
        await connection.call(("PING",), link.deadline())


async def look_again(link: Link) -> None:
    """Ask where the servers are now: one may have taken the place of ours."""
    try:
        await link.topology.refresh(link.deadline())
    except BackendUnavailable:
        return  # the next attempt to connect says so
