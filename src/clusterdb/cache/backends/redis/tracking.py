"""A server's tracked connection: the reads that may be kept near, and the word of what changes.

With ``CLIENT TRACKING`` a server remembers each key that a connection read, and pushes the key when
anyone changes it. TCP is ordered, so a reply to a command that was **sent** at some moment proves
that every change before that moment was pushed before it, and has been applied here. That moment is
``verified_at``; a heartbeat moves it on three times in the least staleness bound. Only a keyed read
counts: a server that lost its slots still answers ``PING``.

What was read over a connection belongs to it: it has the hidden tag ``source``, which ends with the
connection, with a push that names no key (all were flushed), and when the cluster's epoch changes
(a slot that is taken by force is not pushed). So no gap is ever repaired: what it covers is gone.

A heartbeat that stays without an answer for a staleness bound closes the connection. Default mode,
no ``NOLOOP``: that would hide evictions and expirations which our own commands cause.
Source: Redis documentation, "Client-side caching"; server behaviour read in 7.0 and probed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from math import inf
from typing import Any, Final, NoReturn

from ...backoff import Backoff
from ...errors import BackendUnavailable, ServerError
from ...near import HIDDEN
from ...transport import Command, Connection, Node, Reply
from .link import Link

__all__ = ["Tracked"]

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_REFUSED_PAUSE: Final = 30.0
_SHORTEST: Final = 0.01
_FOR_GOOD: Final = frozenset({"MOVED", "READONLY", "CLUSTERDOWN", "MASTERDOWN", "LOADING"})
"""What a server says that is not the primary it was."""

_numbers = count(1)


class Tracked:
    """The tracked connection to one server, opened again whenever it is lost.

    ``every`` gives the seconds between heartbeats. ``on_keys`` is told of keys that changed, before
    any reply behind that is given to its caller, and ``on_flushed`` that all did; ``on_lost`` that
    the source has ended, and ``on_verified`` that ``verified_at`` has moved. ``vouches`` is set by
    the owner: whether what is read here may be kept.
    """

    def __init__(
        self,
        node: Node,
        link: Link,
        *,
        every: Callable[[], float],
        on_keys: Callable[[list[bytes]], None],
        on_flushed: Callable[[], None],
        on_lost: Callable[[Tracked], None],
        on_verified: Callable[[], None],
        cluster: bool = False,
    ) -> None:
        self.node = node
        self.connection: Connection | None = None
        self.source = ""
        self.verified_at = -inf
        self.problem = ""
        self.vouches = False
        self._link = link
        self._every = every
        self._on_keys = on_keys
        self._on_flushed = on_flushed
        self._on_lost = on_lost
        self._on_verified = on_verified
        self._cluster = cluster
        self._epoch = b""
        self._task = asyncio.create_task(self._run(), name="clusterdb-cache: track a server")

    def end_source(self) -> None:
        """Let go of all that was read so far; what is read from now on has another source."""
        self._on_lost(self)
        self.source = f"{HIDDEN}{self.node.name}#{next(_numbers)}"

    def distrust(self, reason: str) -> None:
        """Close the connection: the server may not be what it was."""
        if self.connection is not None:
            self.connection.abort(reason)

    def refuses(self, reply: Reply) -> bool:
        """Whether the server sends us elsewhere; if it is no primary any more it is let go of."""
        for part in reply if type(reply) is list else (reply,):
            if type(part) is ServerError and part.code != "WRONGTYPE":
                if part.code in _FOR_GOOD:
                    self.distrust(f"{self.node.name}: {part}")
                return True
        return False

    def cancel(self) -> None:
        """Close the connection, and end soon."""
        self._task.cancel()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    async def aclose(self) -> None:
        """Close the connection, end the task."""
        self._task.cancel()
        await asyncio.wait([self._task])

    # -- inside

    async def _run(self) -> None:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while True:
            try:
                connection = await self.node.open(
                    self._link.deadline(),
                    on_push=lambda _, push: self._pushed(push),
                    on_lost=lambda _: self._lost(),
                )
                try:
                    await self._track(connection, backoff)
                finally:
                    connection.abort("tracking ended")
            except BackendUnavailable as error:
                self.problem = f"nothing of {self.node.name} is kept near: {error}"
                pause = backoff.pause()
            except ServerError as error:
                self.problem = (
                    f"nothing of {self.node.name} is kept near: it refuses CLIENT TRACKING or the "
                    f"heartbeat ({error}); allow them, or set near: false"
                )
                pause = _REFUSED_PAUSE
            await asyncio.sleep(pause)

    async def _track(self, connection: Connection, backoff: Backoff) -> NoReturn:
        """Serve with one connection until it is lost. Raises what ended it."""
        deadline = self._link.deadline()
        await connection.call(("CLIENT", "TRACKING", "ON"), deadline)
        self._epoch = b""
        self.end_source()
        self.connection = connection  # it vouches from the first heartbeat on
        await self._beat(connection, deadline)
        backoff.reset()
        self.problem = ""
        while True:
            every = self._every()
            await asyncio.sleep(max(_SHORTEST, self.verified_at + every - self._link.now()))
            await self._beat(connection, self._link.now() + 3 * every)

    async def _beat(self, connection: Connection, deadline: float) -> None:
        commands: list[Command] = [("EXISTS", self._link.marker(self.node))]
        if self._cluster:
            commands.append(("CLUSTER", "INFO"))
        sent_at = self._link.now()
        try:
            replies = await connection.calls(commands, deadline)
        except BackendUnavailable as error:
            connection.abort(str(error))
            raise
        for reply in replies:
            if isinstance(reply, ServerError):
                connection.abort(str(reply))
                if reply.code in ("NOPERM", "ERR"):
                    raise reply
                raise BackendUnavailable(str(reply)) from reply
        if self._cluster:
            await self._compare_epochs(bytes(replies[1]))
        self.verified_at = sent_at
        self._on_verified()

    async def _compare_epochs(self, info: bytes) -> None:
        lines = [line for line in info.split(b"\r\n") if line.startswith(b"cluster_current_epoch")]
        epoch = lines[0] if lines else b""
        if self._epoch and epoch != self._epoch:
            self.end_source()
            await self._link.topology.refresh(self._link.deadline())
        self._epoch = epoch

    def _pushed(self, push: list[Any]) -> None:
        if push[0] != b"invalidate":
            return
        keys = push[1]
        if keys is None:
            self.end_source()
            self._on_flushed()
        else:
            self._on_keys(keys)

    def _lost(self) -> None:
        """Before any call of the lost connection ends, and whoever is lost: nothing else has the
        present source.
        """
        self.connection = None
        self.verified_at = -inf
        self.end_source()
        self._on_verified()
