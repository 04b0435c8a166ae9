"""What a process knows of the placement of a ring, and how it never acts by an old one.

Each server keeps the placement under one key. A process reads it over every connection that it
opens, before the connection is used for anything, and once a second; the highest epoch counts.
**A connection belongs to the placement that was known when it was opened**, says so in its name
(``CLIENT SETNAME``), and carries commands by no other: with a new placement all servers get new
connections, and the old ones end with what is under way on them. So whoever moves keys can tell
which connections may still carry commands by an older placement, and end them (``CLIENT KILL``),
whatever their process does, even one that has been stopped for hours.

A server without a placement, or with an older one, proves nothing: it may have come back empty, or
with old data. So before a connection to it is used, the other servers are asked, and it is given
what they say. While keys move that is done only where another server says that they do move, and
not just will, and this one has no data; else it has to wait for whoever moves them. A move that no
server knows of any more has not begun, and is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from typing import Any, Final

from msgspec.structs import replace

from ..errors import BackendUnavailable, CacheError, ServerError
from ..partition.placement import NOBODY, Placed, Placement
from .connection import Command, Connection
from .endpoint import Endpoint
from .handshake import connect
from .node import Node

__all__ = ["LOOK_EVERY", "SHARED_FOR", "Placing"]

LOOK_EVERY: Final = 1.0
SHARED_FOR: Final = 1.0
"""Seconds for which what the other servers said counts for further connections. Whoever moves keys
waits for longer than that between telling the servers and ending connections."""

_PATIENCE: Final = 0.5
_COMMA: Final = ", "
_AWAY: Final = object()

# placement, its epoch, whether keys move -> 1 | 0 it has data, or knows as much
_PUT_BACK: Final = """#!lua flags=allow-oom
local at = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) ') or 0)
if at >= tonumber(ARGV[2]) then return 0 end
if ARGV[3] == '1' and (at > 0 or redis.call('DBSIZE') > 0) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


class Placing:
    """The placement as far as this process knows it. ``configured`` counts while no server has any.

    ``adopted`` is called when there is another, at once and without an await in between: the caller
    gives all servers new connections.
    """

    def __init__(
        self,
        record: bytes,
        label: str,
        configured: Placement,
        where: Sequence[Endpoint],
        now: Callable[[], float],
        adopted: Callable[[], None],
    ) -> None:
        self.placed = Placed(configured)
        self.record = record
        self.problem = ""
        """Why the placement that the servers keep does not count here, if so."""
        self.label = label
        self.configured = configured
        self._where = where
        self._now = now
        self._adopted = adopted
        self._looked_at = -inf
        self._heard: Placement | None = None
        self._heard_all = False
        self._looking: asyncio.Task[list[Placement]] | None = None

    @property
    def epoch(self) -> int:
        """That of the placement that counts here."""
        return self.placed.placement.epoch

    @property
    def version(self) -> str:
        """What tells the placement that counts here from all others."""
        return self.placed.placement.version

    # -- connections

    async def prepare(self, node: Node, connection: Connection, deadline: float) -> None:
        """See :class:`Node`. Cost: one round trip; with a server that has no placement, and once a
        second at most, one more connection to each of the others.
        """
        version = self.version
        commands: list[Command] = [
            ("CLIENT", "SETNAME", f"{self.label}:{version}"),
            ("GET", self.record),
        ]
        _, text = await connection.calls(commands, deadline)
        if isinstance(text, ServerError):
            raise BackendUnavailable(
                f"{node.name} does not tell how keys are placed ({text}): let the user of "
                f"backend.username read {self.record.decode()}"
            )
        found = Placement.read(text)
        self._take(found)
        if found is None or found.epoch < self.epoch:
            await self._ask_others(node, deadline)
            if self.version == version:
                await self._put_back(connection, deadline)
        if self.version != version:
            raise BackendUnavailable(f"{node.name} gets new connections: keys are placed anew")

    async def look(self, nodes: Iterable[Node], deadline: float) -> None:
        """Ask the servers that we are connected to. One round trip."""
        asked = [node for node in nodes if node.connections]
        texts = await asyncio.gather(
            *[node.call(("GET", self.record), deadline) for node in asked], return_exceptions=True
        )
        said: dict[Node, Placement | None] = {}
        for node, text in zip(asked, texts, strict=True):
            if isinstance(text, BaseException):
                if not isinstance(text, CacheError):
                    raise text
                continue
            said[node] = Placement.read(text)
            self._take(said[node])
        known = self.placed.placement
        behind = [
            node for node, found in said.items() if found is None or found.epoch < known.epoch
        ]
        if known.moves and len(behind) == len(self._where):
            self._count(max([*filter(None, said.values()), self.configured], key=_epoch))
            return
        for node in behind:
            with suppress(CacheError):
                await self._ask_others(node, deadline)
                if self.version == known.version:
                    await self._put_back(await node.connection(deadline), deadline)

    def _take(self, found: Placement | None) -> None:
        """Let ``found`` count if it is later than what is known, or as late and another."""
        if found is not None and found.epoch >= self.epoch and found.version != self.version:
            self._count(found)

    def _count(self, found: Placement) -> None:
        known = set(self.configured.weights)
        self.problem = ""
        if set(found.weights) != known:
            servers = _COMMA.join(sorted(found.weights))
            if found.moves:
                raise BackendUnavailable(
                    f"keys are moving between {servers}, and backend.urls names other servers: let "
                    f"the move end ('cache maintenance rebalance' with those servers) before"
                )
            self.problem = (
                f"the servers keep a placement for {servers}, which does not count as backend.urls "
                f"names others: keys are placed by partitioning.strategy"
            )
            found = replace(self.configured, epoch=found.epoch, change=found.change)
        self.placed = Placed(found)
        self._adopted()

    async def _ask_others(self, node: Node, deadline: float) -> None:
        """Learn what the other servers say, as far as they answer."""
        if self._now() - self._looked_at < SHARED_FOR:
            return  # what they said then counts already
        task = self._looking
        if task is None or task.done():
            patience = min(_PATIENCE, (deadline - self._now()) / 2)
            task = self._looking = asyncio.create_task(
                self._ask_all(node, patience), name="clusterdb-cache: ask the other servers"
            )
        await asyncio.wait([task], timeout=max(0.0, deadline - self._now()))
        if not task.done() or task.cancelled():
            raise BackendUnavailable("the other servers of the ring did not answer in time")
        for found in task.result():
            self._take(found)

    async def _ask_all(self, node: Node, patience: float) -> list[Placement]:
        began = self._now()
        others = [where for where in self._where if where != node.endpoint]
        texts = await asyncio.gather(*[self._ask(where, began + patience) for where in others])
        found = [each for text in texts if (each := Placement.read(text)) is not None]
        found.sort(key=lambda each: (each.epoch, each.stage == "moving"))
        self._looked_at = began
        self._heard = found[-1] if found else None
        self._heard_all = all(text is not _AWAY for text in texts)
        return found[-1:]

    async def _ask(self, where: Endpoint, deadline: float) -> Any:
        """What a server keeps, over a connection of its own; `_AWAY` if it does not say."""
        try:
            made = await connect(
                where, lambda: Connection(where.name, self._now), deadline - self._now()
            )
        except BackendUnavailable:
            return _AWAY
        try:
            return await made.call(("GET", self.record), deadline)
        except (BackendUnavailable, ServerError):
            return _AWAY
        finally:
            made.abort("it was for one question")

    async def _put_back(self, connection: Connection, deadline: float) -> None:
        """Give a server the placement that it lost, if another one has just said the same, or all
        have lost it.
        """
        known, heard = self.placed.placement, self._heard
        if self.problem or not known.epoch:
            return
        same = heard is not None and heard.version == known.version
        if known.moves:
            if not same or heard is None or heard.stage != "moving":
                return
            known = replace(known, stage="moving", token=NOBODY)
        elif not same and not (self._heard_all and (heard is None or heard.epoch < known.epoch)):
            return
        words = (known.text(), known.epoch, int(known.moves))
        with suppress(ServerError):
            await connection.call(("EVAL", _PUT_BACK, 1, self.record, *words), deadline, True)

    def forked(self) -> None:
        """In the child of a fork: the parent's tasks are not ours."""
        self._looking = None

    async def aclose(self) -> None:
        """End every task."""
        task, self._looking = self._looking, None
        if task is not None and not task.get_loop().is_closed():
            task.cancel()
            await asyncio.wait([task])


def _epoch(placement: Placement) -> int:
    return placement.epoch
