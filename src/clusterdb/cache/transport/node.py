"""One server and the connections to it.

Three kinds of work keep out of each other's way:

* *quick* calls share ``min_connections`` to ``max_connections`` multiplexed connections;
* *bulk* calls (large values) share one connection of their own, so that a small read never waits
  behind a megabyte;
* *exclusive* work (`WAIT`, blocking commands) has a connection to itself while it lasts, at most
  ``max_connections`` at a time.

The rule of retries: what was written and may have changed something is never sent again. Reads,
and commands that were never written, are sent once more, within their deadline.

A write whose outcome is unknown may still be on its way, in a buffer of a network or of a server
that stands still, and would undo what is written after it. So its connection is closed, and before
the next write the same server is told to end it too (``CLIENT KILL ID``): after that reply nothing
that the old connection sent can be carried out. A server that was started anew has forgotten it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from math import inf
from typing import Any, Final

from ..config import PoolConfig
from ..errors import BackendUnavailable, OutcomeUnknown, ServerError
from .connection import Command, Connection, Limits, Reply
from .endpoint import Endpoint
from .handshake import connect
from .lane import Lane

__all__ = ["Node", "Prepare"]

_RETRIES: Final = 2

OnPush = Callable[[Connection, list[Any]], None]
OnLost = Callable[[Connection], None]
Prepare = Callable[["Node", Connection, float], Awaitable[None]]


class Exclusive:
    """A connection of one's own while an ``async with`` lasts."""

    def __init__(self, node: Node, deadline: float) -> None:
        self._node = node
        self._deadline = deadline
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        connection = self._connection = await self._node.take(self._deadline)
        return connection

    async def __aexit__(self, *exception: object) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None, "it was entered"
        self._node.give_back(connection)


class Node:
    """A server. Does no I/O before the first call.

    ``now`` is the clock of all deadlines, ``on_push`` gets the pushes of the connections that calls
    share. ``prepare`` is awaited, with a deadline, before a new connection is used for anything; if
    it raises `BackendUnavailable`, there is none.
    """

    def __init__(
        self,
        where: Endpoint,
        pool: PoolConfig,
        now: Callable[[], float],
        *,
        on_push: OnPush | None = None,
        limits: Limits = Limits(),  # noqa: B008 - it is a constant
        prepare: Prepare | None = None,
    ) -> None:
        self.endpoint = where
        self.name = where.name
        self._pool = pool
        self._now = now
        self._on_push = on_push
        self._limits = limits
        self._prepare = prepare
        self._generations = count(1)
        idle = pool.idle_timeout
        self._quick = Lane(
            self._opener, now, least=pool.min_connections, most=pool.max_connections,
            idle_timeout=idle,
        )  # fmt: skip
        self._bulk = Lane(self._opener, now, least=0, most=1, idle_timeout=idle)
        self._resting: list[Connection] = []
        self._exclusive = asyncio.Semaphore(pool.max_connections)
        self._held: set[Connection] = set()
        self._doubted: dict[tuple[str, int], None] = {}
        self._settling: asyncio.Task[None] | None = None
        self.unsettled = ""
        """Why writes without an answer can't be stopped here, if so."""

    def __repr__(self) -> str:
        return f"<Node {self.name}: {len(self.connections)} connections>"

    @property
    def connections(self) -> list[Connection]:
        """The open connections that calls share."""
        return [*self._quick.connections, *self._bulk.connections]

    @property
    def reconnects(self) -> int:
        """How often a shared connection was opened when none was left of those before."""
        return self._quick.reconnects

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being opened."""
        return self._quick.busy or self._bulk.busy or bool(self._held)

    @property
    def down(self) -> BackendUnavailable | None:
        """Why the server can't be reached, while that is so."""
        return self._quick.down

    @property
    def down_since(self) -> float:
        """Since when the server can't be reached; infinity while it can."""
        return self._quick.down_since

    # -- calls

    async def connection(self, deadline: float, *, bulk: bool = False) -> Connection:
        """The shared connection that a call would use now."""
        lane = self._bulk if bulk else self._quick
        return lane.pick() or await lane.wait(deadline)

    def ask(self, command: Command, deadline: float, *, bulk: bool = False) -> Future[Reply] | None:
        """The reply to a command that only reads, in one try, if a connection is open: where that
        fails, or none is, `call` it. Raises as `Connection.call` does.
        """
        connection = (self._bulk if bulk else self._quick).pick()
        return None if connection is None else connection.call(command, deadline)

    async def call(
        self, command: Command, deadline: float, *, write: bool = False, bulk: bool = False
    ) -> Reply:
        """The reply to one command. Raises as `Connection.call` does. Cost: one round trip."""
        lane = self._bulk if bulk else self._quick
        tries = 0
        while True:
            if write and self._doubted:
                await self._settle(deadline)
            connection = lane.pick() or await lane.wait(deadline)
            try:
                return await connection.call(command, deadline, write)
            except BackendUnavailable as error:
                if connection.doubtful:
                    self._doubt(connection)
                tries += 1
                self._give_up(error, deadline, tries)

    async def calls(
        self,
        commands: Sequence[Command],
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
    ) -> list[Reply]:
        """The replies to commands sent back to back, error replies among them.

        Cost: one round trip, whatever their number.
        """
        lane = self._bulk if bulk else self._quick
        tries = 0
        while True:
            if write and self._doubted:
                await self._settle(deadline)
            connection = lane.pick() or await lane.wait(deadline)
            try:
                return await connection.calls(commands, deadline, write)
            except BackendUnavailable as error:
                if connection.doubtful:
                    self._doubt(connection)
                tries += 1
                self._give_up(error, deadline, tries)

    def _give_up(self, error: BackendUnavailable, deadline: float, tries: int) -> None:
        """Raise ``error`` unless the call changed nothing and there is time for another try."""
        if isinstance(error, OutcomeUnknown) or tries > _RETRIES or self._now() >= deadline:
            raise error

    # -- writes without an answer

    def _doubt(self, connection: Connection) -> None:
        """What a connection sent may still be carried out: nothing else may overtake it."""
        if connection.client_id and connection.run_id:
            self._doubted[connection.run_id, connection.client_id] = None
        connection.abort("a write got no answer in time")

    async def _settle(self, deadline: float) -> None:
        """End on the server what was closed here with a write on its way; one task for all who
        wait. Raises `BackendUnavailable` where the server doesn't do it in time.
        """
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._kill(), name="clusterdb-cache: settle")
        settling = self._settling
        await asyncio.wait([settling], timeout=max(0.0, deadline - self._now()))
        if not settling.done() or settling.cancelled():
            raise BackendUnavailable(
                f"{self.name} has not ended a lost connection's writes in time"
            )
        error = settling.exception()
        if error is not None:
            raise BackendUnavailable(str(error)) from error

    async def _kill(self) -> None:
        deadline = self._now() + self._pool.timeout
        while self._doubted:
            connection = self._quick.pick() or await self._quick.wait(deadline)
            run_id, client_id = next(iter(self._doubted))
            if connection.run_id == run_id:
                try:
                    await connection.call(("CLIENT", "KILL", "ID", client_id), deadline)
                except ServerError as error:
                    self.unsettled = (
                        f"{self.name} refuses CLIENT KILL ({error}): a write whose outcome was "
                        f"unknown may be carried out after a later one; allow +client|kill"
                    )
            self._doubted.pop((run_id, client_id), None)

    # -- connections of one's own

    def exclusive(self, deadline: float) -> Exclusive:
        """A connection that nobody else uses meanwhile, for `WAIT` and blocking commands.

        It is used again afterwards when nothing is under way on it, and closed otherwise.
        """
        return Exclusive(self, deadline)

    async def take(self, deadline: float) -> Connection:
        """What `exclusive` enters with; to be given back."""
        try:
            async with asyncio.timeout(deadline - self._now()):
                await self._exclusive.acquire()
        except TimeoutError:
            busy = f"all {self._pool.max_connections} connections of their own to {self.name}"
            raise BackendUnavailable(f"{busy} are in use; raise pool.max_connections") from None
        try:
            return await self._rested(deadline)
        except BaseException:
            self._exclusive.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """The end of `take`."""
        if connection.lost is None and not connection.load:
            self._resting.append(connection)
        else:
            connection.abort("its user left while a command was under way")
        if connection.doubtful:
            self._doubt(connection)
        self._exclusive.release()

    async def _rested(self, deadline: float) -> Connection:
        before = self._now() - self._pool.idle_timeout
        while self._resting:
            connection = self._resting.pop()
            if connection.lost is None and connection.heard_at > before:
                return connection
            connection.abort("idle")
        return await self.open(deadline, silence=inf)

    async def open(
        self,
        deadline: float = inf,
        *,
        on_push: OnPush | None = None,
        on_lost: OnLost | None = None,
        silence: float | None = None,
    ) -> Connection:
        """One more connection, which belongs to the caller; the node closes it when it closes.

        ``silence``: see `Connection`; by default the pool's timeout. Raises `BackendUnavailable`.
        """

        def lost(connection: Connection) -> None:
            self._held.discard(connection)
            if on_lost is not None:
                on_lost(connection)

        timeout = min(self._pool.connect_timeout, deadline - self._now())
        opened = await self._connect(timeout, silence, on_push, lost)
        self._held.add(opened)
        return opened

    async def _opener(self, on_lost: OnLost) -> Connection:
        def lost(connection: Connection) -> None:
            if connection.doubtful:  # of a write, too, that its caller gave up
                self._doubt(connection)
            on_lost(connection)

        return await self._connect(self._pool.connect_timeout, None, self._on_push, lost)

    async def _connect(
        self, timeout: float, silence: float | None, on_push: OnPush | None, on_lost: OnLost
    ) -> Connection:
        def connection() -> Connection:
            return Connection(
                self.name,
                self._now,
                generation=next(self._generations),
                silence=self._pool.timeout if silence is None else silence,
                limits=self._limits,
                on_push=on_push,
                on_lost=on_lost,
            )

        opened = await connect(self.endpoint, connection, timeout)
        if self._prepare is not None:
            try:
                await self._prepare(self, opened, self._now() + timeout)
            except BaseException:
                opened.abort("it could not be prepared")
                raise
        return opened

    # -- life

    def successor(self) -> Node:
        """The same server, with connections of its own. Writes of this one that are still on their
        way are ended before the other's first.
        """
        other = Node(
            self.endpoint, self._pool, self._now,
            on_push=self._on_push, limits=self._limits, prepare=self._prepare,
        )  # fmt: skip
        other._doubted = self._doubted
        return other

    def retire(self) -> None:
        """Take no more calls, as the server left the topology; those under way may end."""
        self._quick.retire()
        self._bulk.retire()
        for connection in list(self._held):
            connection.retire()

    async def aclose(self) -> None:
        """Close all connections; what is under way ends as `Connection` says. Idempotent."""
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        await self._quick.aclose()
        await self._bulk.aclose()
        for connection in list(self._held):
            await connection.aclose()

    def forked(self) -> None:
        """In the child of a fork: forget the parent's connections, without a word to the server."""
        self._quick.forked()
        self._bulk.forked()
        for connection in self._held:
            connection.forked()
        self._held.clear()
        self._resting.clear()
        self._doubted.clear()
        self._settling = None
        self._exclusive = asyncio.Semaphore(self._pool.max_connections)
