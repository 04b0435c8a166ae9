"""A connection without a socket: the test plays the server, byte by byte, and turns the clock."""

from __future__ import annotations

import asyncio
from typing import Any

from hiredis import Reader

from clusterdb.cache.transport.connection import Connection, Limits

__all__ = ["SMALL", "Wire", "bulk", "push"]

SMALL = Limits(commands=8, unsent=200)


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def push(text: bytes) -> bytes:
    return b">2\r\n$10\r\ninvalidate\r\n*1\r\n" + bulk(text)


class Pipe(asyncio.Transport):
    """What a connection writes to; its buffer can be made to fill up."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        if data:
            self.writes.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def abort(self) -> None:
        self.aborted = True


class Wire:
    """A connection, its clock, and what it has written so far."""

    def __init__(self, limits: Limits = Limits(), **kwargs: Any) -> None:  # noqa: B008
        self.time = 1000.0
        self.pipe = Pipe()
        self.pushes: list[list[Any]] = []
        kwargs.setdefault("on_push", lambda _, message: self.pushes.append(message))
        self.connection = Connection("wire", lambda: self.time, limits=limits, **kwargs)
        self.connection.connection_made(self.pipe)
        self._commands = Reader()

    async def turn(self) -> None:
        """Let the event loop turn, so that what was called is written."""
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def commands(self) -> list[list[bytes]]:
        """The commands that were written since the last time."""
        for data in self.pipe.writes:
            self._commands.feed(data)
        self.pipe.writes.clear()
        found: list[list[bytes]] = []
        while (command := self._commands.gets()) is not False:
            found.append(command)
        return found

    def answer(self, *parts: bytes) -> None:
        """Bytes from the server."""
        self.connection.data_received(b"".join(parts))

    def later(self, seconds: float) -> None:
        """Time passes, and the timer goes off if it was armed for a moment before."""
        self.time += seconds
        while self.connection._alarm is not None and self.connection._alarm_at <= self.time:
            before = self.connection._alarm_at
            self.connection._alarm.cancel()
            self.connection._ring()
            if self.connection._alarm_at <= before:
                raise AssertionError("the timer was armed for the past")

    def outcome(self, future: asyncio.Future[Any]) -> Any:
        """What a future holds: its result, or its error; nothing while it waits."""
        if not future.done() or future.cancelled():
            return None
        return future.exception() or future.result()
