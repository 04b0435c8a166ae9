"""What a server carries out, line by line: ``MONITOR`` on a connection of its own.

`Connection` matches replies to calls, and these lines answer none. RESP2 is enough here, and a
server's words may be shown, as none of these commands repeats a password.

A server keeps what a reader has not taken, without a limit unless it was given one, so whoever
reads these lines must be fast and go in time; ``lag`` tells. Source: "MONITOR", redis.io, which
also says that one reader can halve what a server does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

from hiredis import ProtocolError, Reader

from ..errors import BackendUnavailable, ServerError
from .endpoint import Endpoint
from .packing import Command, pack

__all__ = ["Tap"]

_AT_ONCE: Final = 1 << 18
_MORE: Final = Ellipsis


class Tap:
    """The lines of one server. ``lag`` is how many seconds they come later than at first."""

    def __init__(self, where: Endpoint, now: Callable[[], float]) -> None:
        self.endpoint = where
        self.lag = 0.0
        self._now = now
        self._lead: float | None = None
        self._parser = Reader(ProtocolError, ServerError, notEnoughData=_MORE)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self, timeout: float) -> None:
        """Connect, log in and begin. Raises `BackendUnavailable`. Two round trips at most."""
        where = self.endpoint
        commands: list[Command] = []
        if where.password is not None:
            commands.append(("AUTH", where.username or "default", where.password))
        commands.append(("MONITOR",))
        try:
            async with asyncio.timeout(timeout):
                self._streams = reader, writer = await _connected(where)
                for command in commands:
                    writer.write(pack(command))
                    await self._confirmed(reader)
        except ServerError as error:
            hint = "; allow the user +monitor" if error.code == "NOPERM" else ""
            raise BackendUnavailable(f"Redis at {where.name}: {error}{hint}") from error
        except (OSError, ProtocolError) as error:  # TimeoutError is one
            reason = str(error) or f"did not answer within {timeout:g} s"
            raise BackendUnavailable(f"Redis at {where.name}: {reason}") from error

    async def _confirmed(self, reader: asyncio.StreamReader) -> None:
        """The reply to one command; what comes behind it is kept."""
        while (reply := self._parser.gets()) is _MORE:
            self._parser.feed(await self._read(reader))
        if isinstance(reply, ServerError):
            raise reply

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            data = await reader.read(_AT_ONCE)
        except OSError as error:
            raise BackendUnavailable(f"Redis at {self.endpoint.name}: {error}") from error
        if not data:
            raise BackendUnavailable(f"Redis at {self.endpoint.name}: closed the connection")
        return data

    async def lines(self) -> AsyncGenerator[list[bytes], None]:
        """All lines from :meth:`open` on, as many at a time as have come. Ends by raising
        `BackendUnavailable`.
        """
        assert self._streams is not None, "it was opened"
        reader, parser = self._streams[0], self._parser
        while True:
            lines: list[Any] = []
            while (line := parser.gets()) is not _MORE:
                lines.append(line)
            if lines:
                self._measure(lines[-1])
                yield lines
            parser.feed(await self._read(reader))

    def _measure(self, line: bytes) -> None:
        """Compare the server's time with ours; their difference at first is no lag."""
        lead = self._now() - float(line[: line.index(b" ")])
        if self._lead is None:
            self._lead = lead
        self.lag = lead - self._lead

    def close(self) -> None:
        """Go at once. Idempotent."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()


async def _connected(where: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if where.path:
        return await asyncio.open_unix_connection(where.path, limit=_AT_ONCE)
    host = where.host if where.tls is not None else None
    return await asyncio.open_connection(
        where.host, where.port, ssl=where.tls, server_hostname=host, limit=_AT_ONCE
    )
