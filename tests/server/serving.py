"""The server on a real socket, and a client that may be as rude as it likes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from clusterdb.cache import Cache
from clusterdb.cache.server import ServerSettings, run

__all__ = ["Served", "Socket", "serving"]


class Socket:
    """A connection that sends and gets bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, text: str) -> None:
        self.writer.write(text.encode())
        await self.writer.drain()

    async def status(self) -> int:
        """That of the next answer; its headers are read too."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(b" ")[1])

    async def ended(self) -> bytes:
        """What still comes until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    async def aclose(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Served:
    """Where a cache is served."""

    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Socket]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        socket = Socket(reader, writer)
        try:
            yield socket
        finally:
            await socket.aclose()

    def request(self, target: str, *headers: str, method: str = "GET") -> str:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}:{self.port}", *headers]
        return "\r\n".join([*lines, "", ""])


@contextlib.asynccontextmanager
async def serving(cache: Cache, settings: ServerSettings) -> AsyncIterator[Served]:
    """Serve ``cache`` in this loop."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(run(cache, settings, started=address.set_result))
    either: set[asyncio.Future[Any]] = {address, running}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    try:
        yield Served(address.result())
    finally:
        running.cancel()
        await asyncio.wait({running})
