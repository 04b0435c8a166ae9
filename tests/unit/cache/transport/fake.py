"""A server of a few lines that speaks RESP3 and says what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from hiredis import Reader

from clusterdb.cache.config import PoolConfig

__all__ = ["POOL", "FakeServer", "array", "cluster_info", "cluster_slots"]

POOL = PoolConfig(connect_timeout=1, timeout=1)

_GREETINGS = {
    b"HELLO": b"%1\r\n+proto\r\n:3\r\n",
    b"CLIENT": b":1\r\n",
    b"INFO": b"$0\r\n\r\n",
    b"READONLY": b"+OK\r\n",
}


def array(*words: object) -> bytes:
    """A list of texts, numbers and lists that are made already."""
    made = [word if isinstance(word, bytes) else _framed(word) for word in words]
    return b"*%d\r\n%b" % (len(words), b"".join(made))


def _framed(word: object) -> bytes:
    return b":%d\r\n" % word if isinstance(word, int) else f"+{word}\r\n".encode()


def cluster_slots(*ports: int) -> bytes:
    """The slots in equal parts, on servers at these ports."""
    share = 16_384 // len(ports)
    return array(
        *[
            array(n * share, 16_383 if n == len(ports) - 1 else (n + 1) * share - 1,
                  array("127.0.0.1", port, f"id{port}"))
            for n, port in enumerate(ports)
        ]
    )  # fmt: skip


def cluster_info(epoch: int) -> bytes:
    text = f"cluster_state:ok\r\ncluster_current_epoch:{epoch}\r\n".encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)


class FakeServer:
    """Answers each command with what ``answer`` makes of it, after ``delay`` seconds; an empty
    answer ends the connection.
    """

    def __init__(self) -> None:
        self.answers: dict[bytes, bytes] = {}
        self.answer: Callable[[list[bytes]], bytes] = self._from_table
        self.delay = 0.0
        self.seen: list[list[bytes]] = []
        self.port = 0
        self._lines: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def _from_table(self, command: list[bytes]) -> bytes:
        for words in (b" ".join(command[:2]), command[0]):
            if words in self.answers:
                return self.answers[words]
        return b"-ERR not in this play\r\n"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def stop(self) -> None:
        """Listen no more, and end all connections."""
        self._server.close()
        for line in self._lines:
            line.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._lines.add(writer)
        commands = Reader()
        try:
            while data := await reader.read(4096):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    if not await self._play(command, writer):
                        return
        except (OSError, asyncio.CancelledError):
            return  # the client has gone, or the play is over
        finally:
            self._lines.discard(writer)
            writer.close()

    async def _play(self, command: list[bytes], writer: asyncio.StreamWriter) -> bool:
        greeting = _GREETINGS.get(command[0])
        if greeting is not None:
            writer.write(greeting)
            return True
        self.seen.append(command)
        if self.delay:
            await asyncio.sleep(self.delay)
        reply = self.answer(command)
        writer.write(reply)
        return bool(reply)
