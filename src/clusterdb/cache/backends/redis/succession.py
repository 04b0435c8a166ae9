"""What has to be done when another server takes the place of a primary.

Replication is asynchronous, so the successor may lack what the old primary acknowledged in its last
moments. Lost values count as undone, and that is reported: as a warning, and in the health report.
A lost invalidation would bring back what somebody knew to be wrong: so each process does again what
it has invalidated in the last ``_REMEMBERED`` seconds on a server that is a primary no more, before
what it read from the new one counts, and before it writes there. What was under way while servers
changed may have been acknowledged by either, and is done again too. Doing it twice is harmless.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias

from ...clock import Clock
from ...errors import BackendUnavailable, CacheError
from ...transport import Command, Node
from .link import Link, explained

__all__ = ["Kind", "Succession"]

Kind: TypeAlias = Literal["entry", "nonce", "region"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_REMEMBERED: Final = 30.0
_REPORTED: Final = 3600.0
_MOST: Final = 100_000
_NONCE_BYTES: Final = 8
_EVERY = 0.2  # no constant for the compiler: tests wait for longer


class _Done(NamedTuple):
    """An invalidation that was acknowledged: when, by whom, of what."""

    time: float
    node: Node | None
    kind: Kind
    name: bytes


class Succession:
    """The invalidations of one backend. ``clear`` clears a region by its name."""

    def __init__(self, link: Link, clock: Clock, clear: Callable[[str], Awaitable[object]]) -> None:
        self._link = link
        self._now = clock.now
        self._clear = clear
        self._done: deque[_Done] = deque()
        self._version = -1
        self._owed = False
        self._primaries: list[Node] = []
        self._replaced: deque[tuple[float, str]] = deque(maxlen=16)
        self._repeating: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self.moment = 0
        """Grows whenever something was done again: what was read before that counts for nothing."""

    def start(self) -> None:
        """The servers are known: these are the primaries."""
        topology = self._link.topology
        self._done.clear()
        self._primaries, self._version, self._owed = topology.nodes(), topology.version, False
        self._repeating = self._task = None
        if topology.promotes:
            self._task = asyncio.create_task(self._follow(), name="clusterdb-cache: successors")

    async def aclose(self) -> None:
        """End what is under way."""
        for task in (self._task, self._repeating):
            if task is not None and task.get_loop() is asyncio.get_running_loop():
                task.cancel()
                await asyncio.wait([task])
        self._task = self._repeating = None

    def forked(self) -> None:
        """In the child of a fork: the parent's tasks are not ours."""
        self._task = self._repeating = None

    @property
    def version(self) -> int:
        """That of the topology, for :meth:`note`."""
        return self._link.topology.version

    @property
    def due(self) -> bool:
        """Whether a primary may have been replaced, and not all was done again that has to be."""
        topology = self._link.topology
        return topology.promotes and (self._version != topology.version or self._owed)

    def note(self, kind: Kind, names: Iterable[bytes], since: int) -> None:
        """These were invalidated, as a server has acknowledged: names of keys, or of regions;
        ``since`` is the version of before they were sent.
        """
        topology = self._link.topology
        if not topology.promotes:
            return
        now, done = self._now(), self._done
        while done and (done[0].time < now - _REMEMBERED or len(done) > _MOST):
            done.popleft()
        unchanged = since == topology.version
        for name in names:
            try:
                node = topology.node_for(name) if unchanged and kind != "region" else None
            except BackendUnavailable:
                node = None  # whoever it was, it has gone
            done.append(_Done(now, node, kind, name))
        self._owed = self._owed or not unchanged

    async def repeat(self) -> None:
        """Look at the primaries; where one was replaced, invalidate again. Raises
        `BackendUnavailable`, and is then still due. Cost: nothing in most cases, else one round
        trip a server.
        """
        if self._repeating is None:
            self._repeating = asyncio.create_task(self._repeat())
            self._repeating.add_done_callback(self._ended)
        await asyncio.shield(self._repeating)

    async def _repeat(self) -> None:
        topology = self._link.topology
        version, primaries = topology.version, topology.nodes()
        gone = [node for node in self._primaries if node not in primaries]
        owed, self._owed = self._owed, False
        if gone:
            self._report(gone)
        if gone or owed:
            try:
                await self._invalidate(gone)
            except BaseException:
                self._owed = self._owed or owed
                raise
            self.moment += 1
        self._version, self._primaries = version, primaries

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._repeating is task:
            self._repeating = None
        if not task.cancelled():
            task.exception()  # who waits gets it; if nobody does, it is still due

    async def _follow(self) -> None:
        """Do again what is due, though nobody reads or writes here: others may read it."""
        while True:
            await asyncio.sleep(_EVERY)
            if self.due:
                with suppress(CacheError):
                    await self.repeat()

    @property
    def problems(self) -> list[str]:
        """Sentences for a person: primaries that were replaced in the last hour."""
        since = self._now() - _REPORTED
        return [text for time, text in self._replaced if time > since]

    def _report(self, gone: Iterable[Node]) -> None:
        names = ", ".join([node.name for node in gone])
        text = (
            f"{names} was replaced as a primary: writes that it acknowledged in its last moments "
            f"may be undone (coherence.replication: synchronous waits for replicas)"
        )
        if not any(text == known for _, known in self._replaced):
            _LOG.warning("%s", text)
        self._replaced.append((self._now(), text))

    async def _invalidate(self, gone: list[Node]) -> None:
        recent = self._now() - _REMEMBERED
        lost = [
            each
            for each in self._done
            if each.time >= recent and (each.node is None or each.node in gone)
        ]
        names = list(dict.fromkeys(each.name for each in lost if each.kind != "region"))
        nonces = {each.name for each in lost if each.kind == "nonce"}
        commands: list[Command] = [
            ("SET", name, os.urandom(_NONCE_BYTES)) if name in nonces else ("UNLINK", name)
            for name in names
        ]
        if commands:
            for reply in await self._link.send(commands, names, write=True):
                if isinstance(reply, CacheError):
                    raise explained(reply)
        for region in dict.fromkeys(each.name for each in lost if each.kind == "region"):
            await self._clear(region.decode())
