"""Whether a server that answers as a primary still is one.

A reply proves what a server did, not that nobody has taken its place: a master that was frozen or
cut off says that it is one, and shows old values, until it hears of its successor. Where a server
can be replaced (Sentinel, Cluster), one of two signs is asked for again and again:

* ``replicas``: a small write, and ``WAIT`` for the replicas that the topology lists. A replica that
  acknowledges follows this primary, so it was not promoted before the write was sent. With all of
  them nobody was: that is exact. With only some, one of the others may have been.
* ``quorum``: a majority of the sentinels, or of the other primaries' maps, names it. They may learn
  of a promotion a second after it.

A confirmation counts from the moment it was **sent**. ``none`` asks nothing, and bounds nothing
across a failover. The writes go on a connection of their own, as ``WAIT`` stops what is behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from math import inf
from typing import Final, Literal, TypeAlias

from ...errors import BackendUnavailable
from ...transport import Command, Connection, Node
from .link import MARKER_LIVES, Link, seen

__all__ = ["Confirm", "Confirming", "Standing"]

Confirm: TypeAlias = Literal["replicas", "quorum", "none"]

_SHORTEST: Final = 0.02
_QUORUM_SPREAD: Final = 1.0
"""Seconds by which a majority may lag behind a promotion: seen, not promised."""


class Standing:
    """Up to when a primary surely was one, by all signs and by some (moments of the clock)."""

    __slots__ = ("_changed", "all_at", "problem", "some_at", "wanted")

    def __init__(self) -> None:
        self.all_at = self.some_at = -inf
        self.problem = ""
        self.wanted = asyncio.Event()
        """Set by who waits for the next confirmation."""
        self._changed: asyncio.Event | None = None

    def confirm(self, sent_at: float, *, some: bool, all_of_them: bool) -> None:
        """Take in one answer."""
        if some:
            self.some_at = max(self.some_at, sent_at)
        if all_of_them:
            self.all_at = max(self.all_at, sent_at)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def reaches(self, moment: float, patience: float, *, by_all: bool) -> bool:
        """Wait until a confirmation was sent at ``moment`` or later; whether there was one within
        ``patience`` seconds. One confirmation serves all who wait.
        """
        try:
            async with asyncio.timeout(max(0.0, patience)):
                while (self.all_at if by_all else self.some_at) < moment:
                    self.wanted.set()
                    if self._changed is None:
                        self._changed = asyncio.Event()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True


class Confirming:
    """The standings of the primaries of one backend, kept up by a task for each."""

    def __init__(self, link: Link, every: Callable[[], float]) -> None:
        self._link = link
        self._every = every
        self.by: Confirm = "replicas"
        self._standings: dict[Node, Standing] = {}
        self._tasks: dict[Node, asyncio.Task[None]] = {}

    @property
    def needed(self) -> bool:
        """Whether a primary could be replaced without our knowing, and somebody wants to know."""
        return self.by != "none" and self._link.topology.promotes

    @property
    def spread(self) -> float:
        """Seconds by which a primary may have been replaced before its last confirmation."""
        return _QUORUM_SPREAD if self.by == "quorum" else 0.0

    async def check(self, names: Iterable[bytes], bound: float | None, deadline: float) -> float:
        """After the replies to reads of these keys: wait until their servers surely were primaries
        at most ``bound`` seconds ago, or without one after the replies. How many seconds ago that
        is. Raises `BackendUnavailable` where they don't show it by ``deadline``.
        """
        strong = bound is None
        replied_at = self._link.now()
        moment = replied_at - (bound or 0.0)
        sure_at = replied_at
        for node in {self._link.topology.node_for(name) for name in names}:
            standing = self.of(node)
            if (standing.all_at if strong else standing.some_at) < moment:
                patience = deadline - self._link.now()
                if not await standing.reaches(moment, patience, by_all=strong):
                    raise BackendUnavailable(
                        f"{node.name} may have been replaced as a primary, so its answer does not "
                        f"count: {standing.problem or 'it confirms nothing in time'}. With "
                        f"coherence.confirm quorum others are asked, with none nobody is"
                    )
            sure_at = min(sure_at, standing.some_at)
        return max(0.0, self._link.now() - sure_at) + self.spread

    def of(self, node: Node) -> Standing:
        """The standing of a primary, kept up from now on."""
        standing = self._standings.get(node)
        if standing is None:
            standing = self._standings[node] = Standing()
            self._tasks[node] = asyncio.create_task(
                self._keep_up(node, standing), name="clusterdb-cache: confirm a primary"
            )
        return standing

    async def aclose(self) -> None:
        """End every task."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks.values() if task.get_loop() is loop]
        self.abandon()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def start(self) -> None:
        """Begin in the running loop."""
        loop = asyncio.get_running_loop()
        if any(task.get_loop() is not loop for task in self._tasks.values()):
            self.abandon()

    def abandon(self) -> None:
        """Forget the tasks: they belong to a loop that has ended, or to the parent of a fork."""
        self._tasks, self._standings = {}, {}

    # -- one server

    async def _keep_up(self, node: Node, standing: Standing) -> None:
        """Confirm a primary for as long as the topology names it."""
        connection: Connection | None = None
        try:
            while node in self._link.topology.nodes():
                began = self._link.now()
                every = self._every()
                try:
                    if self.by == "quorum":
                        await self._ask_around(node, standing, began)
                    elif self.by == "replicas":
                        if connection is None or connection.lost is not None:
                            connection = await node.open(self._link.deadline(), silence=inf)
                        await self._ask_replicas(node, connection, standing, every)
                except BackendUnavailable as error:
                    standing.problem = f"{node.name} can't be confirmed as the primary: {error}"
                await _sleep(max(_SHORTEST, began + every - self._link.now()), standing.wanted)
        finally:
            if self._standings.get(node) is standing:
                del self._standings[node], self._tasks[node]
            if connection is not None:
                connection.abort("no longer needed")

    async def _ask_around(self, node: Node, standing: Standing, sent_at: float) -> None:
        named = await self._link.topology.names(node, self._link.now() + _QUORUM_SPREAD)
        standing.confirm(sent_at, some=named, all_of_them=named)
        standing.problem = "" if named else f"no majority names {node.name} as a primary"

    async def _ask_replicas(
        self, node: Node, connection: Connection, standing: Standing, every: float
    ) -> None:
        """Wait for the replicas that are listed; where not all answer, look who there is."""
        topology = self._link.topology
        wanted = topology.replicas_of(node)
        if wanted is None:
            await topology.refresh(self._link.deadline())
            return
        sent_at = self._link.now()
        if not wanted:
            standing.confirm(sent_at, some=True, all_of_them=True)
            standing.problem = ""
            await topology.refresh(self._link.deadline())  # a replica may come
            return
        deadline = sent_at + every * 4 + self._link.timeout
        marker = self._link.marker(node)
        commands: list[Command] = [
            ("SET", marker, "", "PX", MARKER_LIVES),
            ("PEXPIRE", marker, MARKER_LIVES),  # a full server, too, replicates this
            ("WAIT", 1, int(every * 3000)),
        ]
        first = connection.calls(commands, deadline, write=True)
        rest = connection.call(("WAIT", wanted, int(every * 1000)), deadline)
        rest.add_done_callback(seen)
        done, kept, acks = await first
        written = done == b"OK" or kept == 1  # else WAIT speaks of an older write
        if written and acks == 1 < wanted:
            standing.confirm(sent_at, some=True, all_of_them=False)  # a dead one holds up nobody
        acks = await rest
        if not written or type(acks) is not int:
            await topology.refresh(self._link.deadline())
            raise BackendUnavailable(f"it answered {done!r} and {acks!r} to SET and WAIT")
        standing.confirm(sent_at, some=acks > 0, all_of_them=acks >= wanted)
        standing.problem = ""
        if acks < wanted:
            standing.problem = (
                f"{acks} of {wanted} replicas of {node.name} acknowledge: nothing is kept near "
                f"until all do, or the topology leaves out those that are away"
            )
            await topology.refresh(self._link.deadline())


async def _sleep(seconds: float, wanted: asyncio.Event) -> None:
    """Sleep, or less where the next confirmation is waited for."""
    try:
        async with asyncio.timeout(seconds):
            await wanted.wait()
    except TimeoutError:
        return
    finally:
        wanted.clear()
