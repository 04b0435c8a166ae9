"""The reads of a region, as its servers carry them out, whichever process they come from.

Each read of an entry is one ``GET``, or one call of the script `READ`, whatever follows; tags and
our own housekeeping have other names. What the near tier of a process answers never gets here.
Keys are given as ``MONITOR`` writes them: escaped, which no two keys are in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ...clock import Clock
from ...config import PartitioningConfig, Redis
from ...errors import BackendUnavailable
from ...transport import Node, Tap
from .link import Link
from .names import Names
from .scripts import READ

__all__ = ["RedisReads", "read_key"]

_LAG: Final = 2.0


class RedisReads:
    """The reads of ``region`` of the cache called ``name``."""

    def __init__(
        self, server: Redis, partitioning: PartitioningConfig, name: str, region: str, clock: Clock
    ) -> None:
        names = Names(name)
        self._link = Link(server, partitioning, clock, names)
        self._timeout = server.pool.connect_timeout
        self._prefix = names.prefix(region).encode()
        self._replicas = server.read_replicas
        self._now = clock.now
        self._taps: list[Tap] = []

    async def open(self) -> None:
        """Begin on every server, the replicas that answer reads among them. Raises
        `BackendUnavailable`.
        """
        await self._link.open()
        topology = self._link.topology
        nodes: list[Node] = []
        for primary in topology.nodes():
            nodes += [primary, *(topology.replicas(primary) if self._replicas else ())]
        self._taps = [Tap(node.endpoint, self._now) for node in nodes]
        await asyncio.gather(*[tap.open(self._timeout) for tap in self._taps])

    async def listen(self, heard: Callable[[bytes], None]) -> None:
        """Tell each key that is read, until cancelled. Raises `BackendUnavailable` where a server
        goes away, or does more than can be read here.
        """
        tasks = [asyncio.create_task(self._follow(tap, heard)) for tap in self._taps]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _follow(self, tap: Tap, heard: Callable[[bytes], None]) -> None:
        database = tap.endpoint.database
        async for lines in tap.lines():
            for line in lines:
                key = read_key(line, self._prefix, database)
                if key is not None:
                    heard(key)
            if tap.lag > _LAG:
                raise BackendUnavailable(
                    f"{tap.endpoint.name} does more than can be read here: its commands come "
                    f"{tap.lag:.1f} s late, and it keeps them until then; record for a shorter time"
                )

    async def aclose(self) -> None:
        """End it on every server. Idempotent."""
        for tap in self._taps:
            tap.close()
        await self._link.aclose()


_GET: Final = b'] "GET" "'
_SCRIPT: Final = b'] "EVALSHA" "%b" "1" "' % str(READ.call(b"")[1]).encode()


def read_key(line: bytes, prefix: bytes, database: int) -> bytes | None:
    """The key that a line of ``MONITOR`` reads from the region of ``prefix``; ``None`` where it
    does something else, or comes from inside a script.
    """
    at = line.find(b'] "', 0, 300)
    for command in (_GET, _SCRIPT):
        if line.startswith(command, at) and line.startswith(prefix, at + len(command)):
            who = line[line.find(b"[") + 1 : at]
            if who.endswith(b" lua") or not who.startswith(b"%d " % database):
                return None
            key = line[at + len(command) + len(prefix) :]
            return key[: key.index(b'" "')] if command is _SCRIPT else key[:-1]
    return None
