"""What has to be done when another server takes the place of a primary.

Replication is asynchronous, so the successor may lack what the old primary acknowledged in its last
moments. Lost values count as undone, and that is reported: as a warning, and in the health report.
A lost invalidation would bring back what somebody knew to be wrong: so each process does again what
it has invalidated in the last ``_REMEMBERED`` seconds on a server that is a primary no more, before
what it read from the new one counts. Doing it twice is harmless.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
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
        self._primaries: list[Node] = []
        self._replaced: deque[tuple[float, str]] = deque(maxlen=16)

    def start(self) -> None:
        """The servers are known: these are the primaries."""
        self._done.clear()
        self._look()

    @property
    def due(self) -> bool:
        """Whether a primary may have been replaced since the last look."""
        return self._link.topology.promotes and self._version != self._link.topology.version

    def note(self, kind: Kind, names: Iterable[bytes]) -> None:
        """These were invalidated, as a server has acknowledged: names of keys, or of regions."""
        topology = self._link.topology
        if not topology.promotes:
            return
        now, done = self._now(), self._done
        while done and (done[0].time < now - _REMEMBERED or len(done) > _MOST):
            done.popleft()
        for name in names:
            try:
                node = None if kind == "region" else topology.node_for(name)
            except BackendUnavailable:
                node = None  # whoever it was, it has gone
            done.append(_Done(now, node, kind, name))

    async def repeat(self) -> None:
        """Look at the primaries; where one was replaced, invalidate again. Raises
        `BackendUnavailable`, and is then still due. Cost: nothing in most cases, else one round
        trip a server.
        """
        known, version = self._primaries, self._version
        gone = self._look()
        if not gone:
            return
        self._report(gone)
        try:
            await self._invalidate(gone)
        except BaseException:
            self._primaries, self._version = known, version
            raise

    @property
    def problems(self) -> list[str]:
        """Sentences for a person: primaries that were replaced in the last hour."""
        since = self._now() - _REPORTED
        return [text for time, text in self._replaced if time > since]

    def _look(self) -> list[Node]:
        """Take note of the primaries; which of those before are none any more."""
        topology = self._link.topology
        before, self._primaries = self._primaries, topology.nodes()
        self._version = topology.version
        return [node for node in before if node not in self._primaries]

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
