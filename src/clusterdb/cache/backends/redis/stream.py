"""Channels of messages over a Redis stream: whoever was away reads what it missed.

The stream keeps the last messages, and a reader its place in it. After a lost connection it reads
on from there, and nothing was missed unless the stream was cut meanwhile, emptied, or lost in a
failover. Whether it was is asked when the connection is new, and when so many messages come at once
that the reader may have fallen behind; in doubt the answer is yes.

Sources: "Redis Streams", XREAD and XINFO STREAM, redis.io.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from ...errors import BackendUnavailable, CacheError, ServerError
from ...protocols import ChannelReceiver
from ...transport import Command, Connection, Node
from .channel import look_again
from .link import Link, explained

__all__ = ["RedisStreamChannel"]

_FIELD: Final = b"m"
_AT_ONCE: Final = 200
_BLOCK: Final = 1.0
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_START: Final = b"0-0"


class RedisStreamChannel:
    """The stream ``name``, of about ``max_length`` messages. See :class:`Channel`."""

    def __init__(self, link: Link, name: str, max_length: int) -> None:
        self._link = link
        self._name = name.encode()
        self._max_length = max_length

    async def send(self, messages: Sequence[bytes]) -> None:
        await self._link.open()
        commands: list[Command] = [
            ("XADD", self._name, "MAXLEN", "~", self._max_length, "*", _FIELD, message)
            for message in messages
        ]
        keys = [self._name] * len(commands)
        for reply in await self._link.send(commands, keys, write=True, replicated=False):
            if isinstance(reply, CacheError):
                raise explained(reply)

    async def listen(self, receiver: ChannelReceiver) -> None:
        pause, missed = _FIRST_PAUSE, False
        place: bytes | None = None
        while True:
            connection: Connection | None = None
            try:
                await self._link.open()
                node = self._link.topology.node_for(self._name)
                connection = await node.open(self._link.deadline())
                if place is None:
                    place = await self._end(connection)
                else:
                    place, missed = await self._resumed(connection, place)
                receiver.connected(missed=missed)
                pause = _FIRST_PAUSE
                while True:
                    place = await self._read(node, connection, place, receiver)
            except (BackendUnavailable, ServerError) as error:
                receiver.disconnected(str(explained(error)))
            finally:
                if connection is not None:
                    connection.abort("it reads no more")
            missed = place is None
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2)
            await look_again(self._link)

    async def aclose(self) -> None:
        await self._link.aclose()

    def forked(self) -> None:
        self._link.forked()

    # -- inside

    async def _end(self, connection: Connection) -> bytes:
        """The place behind the last message."""
        command: Command = ("XREVRANGE", self._name, "+", "-", "COUNT", 1)
        last = await connection.call(command, self._link.deadline())
        return bytes(last[0][0]) if last else _START

    async def _resumed(self, connection: Connection, place: bytes) -> tuple[bytes, bool]:
        """Where to read on from ``place``, and whether messages behind it may be gone."""
        try:
            info = await connection.call(("XINFO", "STREAM", self._name), self._link.deadline())
        except ServerError as error:
            if "no such key" not in str(error):
                raise
            return _START, True
        if _number(info[b"last-generated-id"]) < _number(place):
            return _START, True  # another stream, or one that a failover set back
        first = info[b"first-entry"]
        return place, first is None or _number(first[0]) > _number(place)

    async def _read(
        self, node: Node, connection: Connection, place: bytes, receiver: ChannelReceiver
    ) -> bytes:
        """Wait a while for messages behind ``place``; the place behind those that came."""
        command: Command = (
            *("XREAD", "COUNT", _AT_ONCE, "BLOCK", int(_BLOCK * 1000)),
            *("STREAMS", self._name, place),
        )
        found = await connection.call(command, self._link.deadline() + _BLOCK)
        if self._link.topology.node_for(self._name) is not node:
            raise BackendUnavailable(f"{node.name} does not carry the stream any more")
        entries = [] if found is None else found[self._name]
        if not entries:
            return place
        place = bytes(entries[-1][0])
        receiver.received([fields[1] for _, fields in entries if fields and fields[0] == _FIELD])
        if len(entries) == _AT_ONCE:
            place, missed = await self._resumed(connection, place)
            if missed:
                receiver.connected(missed=True)
        return place


def _number(place: Any) -> tuple[int, int]:
    time, _, count = bytes(place).partition(b"-")
    return int(time), int(count or 0)
