"""A TCP proxy that treats a connection badly: splits, delays, drops, black-holes, cuts, resets."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Self

__all__ = ["FaultProxy"]


class FaultProxy:
    """Stands before a server on 127.0.0.1; its faults may be changed at any time.

    ``split`` passes bytes on in pieces of at most so many; ``delay`` holds each piece back up to so
    many seconds, in order; ``deaf`` swallows what clients send, ``mute`` what the server answers;
    ``cut_after`` ends a connection after so many bytes of answers; ``hold`` keeps what clients send
    while it is set until :meth:`release`, even when they have gone by then, and :meth:`hold_open`
    keeps only what the connections send that are open by now. ``lag`` holds back what the server
    answers by so many seconds.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = 0
        self.split = 0
        self.delay = 0.0
        self.lag = 0.0
        self.deaf = False
        self.mute = False
        self.hold = False
        self.cut_after = -1
        self.accepted = 0
        self._held = 0
        self._released = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._writers) // 2

    def reset(self) -> None:
        """End all connections with a RST."""
        for writer in list(self._writers):
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def hold_open(self) -> None:
        """Keep what the connections send that are open by now; later ones are as always."""
        self._held = self.accepted
        self._released.clear()

    def release(self) -> None:
        """Pass on what was held."""
        self.hold = False
        self._held = 0
        self._released.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        number = self.accepted
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            back, out = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(out)
            try:
                pumps = [
                    self._pump(reader, out, number, up=True),
                    self._pump(back, writer, number, up=False),
                ]
                tasks = [asyncio.create_task(pump) for pump in pumps]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in tasks:
                        each.cancel()
                    await asyncio.wait(tasks)
            finally:
                self._drop(out)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or the proxy closes: either way the connection ends
        finally:
            self._drop(writer)
            self._tasks.discard(task)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, *, up: bool
    ) -> None:
        passed = 0
        try:
            while data := await reader.read(1 << 16):
                while data:
                    size = random.randint(1, self.split) if self.split else len(data)
                    piece, data = data[:size], data[size:]
                    if self.delay:
                        await asyncio.sleep(random.uniform(0, self.delay))
                    if self.lag and not up:
                        await asyncio.sleep(self.lag)
                    if up and (self.hold or number <= self._held):
                        await self._released.wait()
                    if self.deaf if up else self.mute:
                        continue
                    if not up and 0 <= self.cut_after <= passed + len(piece):
                        writer.write(piece[: self.cut_after - passed])
                        return
                    passed += len(piece)
                    writer.write(piece)
                await writer.drain()
        except OSError:
            return
