"""Which servers can be reached, told to a follower as it changes.

Looked at a few times a second while somebody listens, and not at all otherwise. What is looked at
is what the connections know already (nothing is sent), and topologies replace servers as they
follow them: so a look at all of them is simpler than a hook in each, and as exact, as a server
counts as away only once an attempt to reach it has failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from ...clock import Clock
from ...errors import BackendUnavailable
from ...protocols import Follower, RemoteChange
from .link import Link

__all__ = ["Watching", "changes"]

_EVERY: Final = 0.2
_LEFT: Final = "it holds no entries any more"


class Watching:
    """The look-out of one backend. ``follow`` may be called at any time, from any thread."""

    def __init__(self, link: Link, clock: Clock) -> None:
        self._link = link
        self._clock = clock
        self._follower: Follower | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The connections are open: look, if anybody wants to know."""
        self._loop = asyncio.get_running_loop()
        self._task = None
        self._begin()

    def follow(self, follower: Follower | None) -> None:
        """See :meth:`Backend.follow`."""
        self._follower = follower
        if follower is not None and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._begin)

    async def aclose(self) -> None:
        """End the look-out."""
        task, self._task, self._loop = self._task, None, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait([task])

    def forked(self) -> None:
        """In the child of a fork: the parent's task is not ours."""
        self._task = self._loop = None

    def _begin(self) -> None:
        if self._follower is not None and self._task is None and self._loop is not None:
            self._task = self._loop.create_task(self._watch(), name="clusterdb-cache: servers")

    async def _watch(self) -> None:
        try:
            known = dict.fromkeys(self._seen(), "")  # who is away already is told too
            while (follower := self._follower) is not None:
                await asyncio.sleep(_EVERY)
                seen = self._seen()
                found = list(changes(known, seen, self._clock.wall()))
                known = seen
                if found:
                    follower(found)
        finally:
            self._task = None

    def _seen(self) -> dict[str, str]:
        """Each server, and why it can't be reached; empty text where it can."""
        try:
            nodes = self._link.topology.nodes()
        except BackendUnavailable:  # closed meanwhile
            return {}
        return {node.name: str(node.down or "") for node in nodes}


def changes(
    known: Mapping[str, str], seen: Mapping[str, str], time: float
) -> Iterator[RemoteChange]:
    """What became of the servers between two looks, of which the second was at ``time``."""
    for name, reason in known.items():
        if not reason and name not in seen:
            yield RemoteChange("node_down", key=name, time=time, text=_LEFT)
    for name, reason in seen.items():
        before = known.get(name)
        if reason and not before:
            yield RemoteChange("node_down", key=name, time=time, text=reason)
        elif not reason and before != "":
            yield RemoteChange("node_up", key=name, time=time)
