"""One primary behind Sentinel: found through the sentinels, and followed when it changes.

All sentinels are asked at once, and the address that a majority names is taken as soon as it is
named (else the one that most of those name that answered in time). The server there must say
itself that it is a master, as sentinels speak of a promotion before it is done. They are asked
again each second, and at once when a call fails in a way that may mean a change. Asking was
preferred to the ``+switch-master`` channel: a lost message has no sign, a missed answer has.

Source: "Guidelines for Redis clients with support for Redis Sentinel", redis.io.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, NamedTuple

from ..config import PoolConfig
from ..errors import BackendUnavailable, OutcomeUnknown, ServerError
from .connection import Command, Connection, Reply
from .endpoint import Endpoint
from .fleet import Fleet
from .node import Node
from .refusals import NOT_NOW, as_unavailable
from .shares import ALL, Place, whole
from .slots import Address

__all__ = ["Sentinel"]

_ASK_EVERY: Final = 1.0
_ANSWER_WITHIN: Final = 1.0
_NO_MASTER: Final = "READONLY"


class _Word(NamedTuple):
    """What one sentinel says: where the master is, and how many replicas it could promote."""

    master: Address
    replicas: int


class Sentinel:
    """The primary called ``master``; ``sentinels`` are asked for it. See `Topology`."""

    promotes: ClassVar[bool] = True

    def __init__(
        self,
        master: str,
        sentinels: Sequence[Endpoint],
        login: Endpoint,
        pool: PoolConfig,
        now: Callable[[], float],
        *,
        on_push: Callable[[Connection, list[Any]], None] | None = None,
    ) -> None:
        self.version = 0
        self._master = master
        self._now = now
        asked = PoolConfig(
            min_connections=0, max_connections=1, connect_timeout=_ANSWER_WITHIN, timeout=5
        )
        self._sentinels = [Node(each, asked, now) for each in sentinels]
        self._fleet = Fleet(login, pool, now, on_push)
        self._primary: Node | None = None
        self._replicas: int | None = None
        self._finding: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = False

    # -- calls

    def nodes(self) -> list[Node]:
        return [] if self._primary is None else [self._primary]

    def node_for(self, key: bytes) -> Node:  # noqa: ARG002 - the same for every key
        if self._primary is None:
            raise BackendUnavailable(f"the sentinels have named no master {self._master!r} yet")
        return self._primary

    def replicas_of(self, node: Node) -> int | None:
        return self._replicas if node is self._primary else None

    async def names(self, node: Node, deadline: float) -> bool:
        votes, _ = await self._votes(deadline)
        named = sum(self._fleet.at(word.master) is node for word in votes)
        return named * 2 > len(self._sentinels)

    async def call(
        self,
        key: bytes | None,  # noqa: ARG002 - the same for every key
        command: Command,
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,  # noqa: ARG002 - replicas are not asked
    ) -> Reply:
        node = self._primary or await self._found(deadline)
        try:
            return await node.call(command, deadline, write=write, bulk=bulk)
        except (ServerError, BackendUnavailable) as error:
            other = await self._instead_of(node, error, deadline)
            if other is None:
                raise _meaning(error, node) from None
        try:
            return await other.call(command, deadline, write=write, bulk=bulk)
        except ServerError as error:
            raise _meaning(error, other) from None

    async def execute(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes | None],  # noqa: ARG002 - the same for every key
        deadline: float,
        *,
        write: bool = False,
        bulk: bool = False,
        replica: bool = False,  # noqa: ARG002 - replicas are not asked
    ) -> list[Reply]:
        try:
            node = self._primary or await self._found(deadline)
        except BackendUnavailable as error:
            return [error] * len(commands)
        replies = await _all(node, commands, deadline, write, bulk)
        failed = [place for place, reply in enumerate(replies) if _may_mean_a_change(reply)]
        if failed:
            other = await self._instead_of(node, replies[failed[0]], deadline)
            undone = [place for place in failed if not isinstance(replies[place], OutcomeUnknown)]
            if other is not None and undone:
                again = [commands[place] for place in undone]
                second = await _all(other, again, deadline, write, bulk)
                for place, reply in zip(undone, second, strict=True):
                    replies[place] = reply
        for place in failed:
            replies[place] = _meaning(replies[place], node)
        return replies

    async def _instead_of(self, node: Node, error: Exception, deadline: float) -> Node | None:
        """Another primary that ``error`` may be a sign of, if what failed may be sent there."""
        if not _may_mean_a_change(error):
            return None
        finding = self._find()
        if isinstance(error, OutcomeUnknown) or self._now() >= deadline:
            return None
        await asyncio.wait([finding], timeout=deadline - self._now())
        return self._primary if self._primary is not node else None

    def replicas(self, primary: Node) -> Sequence[Node]:  # noqa: ARG002 - they are not asked
        return ()

    # -- shares

    def shares(self) -> list[str]:
        return [ALL]

    def places(self, share: str) -> list[Place]:
        return whole(share, self.node_for(b""))

    async def followed(self, place: Place, deadline: float) -> list[Place]:
        await self.refresh(deadline)
        primary = self.node_for(b"")
        return [] if primary is place.node else whole(place.share, primary)

    # -- finding the primary

    async def start(self, deadline: float) -> None:
        node = await self._found(deadline)
        await node.connection(deadline)

    async def refresh(self, deadline: float) -> None:
        await self._ended(self._find(), deadline)

    async def _found(self, deadline: float) -> Node:
        if self._primary is None:
            await self._ended(self._find(), deadline)
        if self._primary is None:
            raise BackendUnavailable(f"the sentinels named no master {self._master!r}")
        return self._primary

    async def _ended(self, finding: asyncio.Task[None], deadline: float) -> None:
        await asyncio.wait([finding], timeout=deadline - self._now())
        if not finding.done():
            raise BackendUnavailable(f"no sentinel named the master {self._master!r} in time")
        if finding.cancelled():
            raise BackendUnavailable("the connections to the sentinels were closed")
        error = finding.exception()
        if error is not None:
            raise BackendUnavailable(str(error)) from error

    def _find(self) -> asyncio.Task[None]:
        """The running question to the sentinels, or a new one."""
        if self._closed:
            raise BackendUnavailable("the connections to the sentinels were closed")
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch(), name="clusterdb-cache: sentinel")
        if self._finding is None or self._finding.done():
            self._finding = asyncio.create_task(self._ask(), name="clusterdb-cache: find master")
            self._finding.add_done_callback(_seen)
        return self._finding

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY * random.uniform(0.8, 1.2))
            await asyncio.wait([self._find()])

    async def _ask(self) -> None:
        """Ask all sentinels, and go to the server that they name."""
        words, reasons = await self._votes(self._now() + _ANSWER_WITHIN)
        if not words:
            raise BackendUnavailable("; ".join(reasons))
        named = Counter(word.master for word in words).most_common(1)[0][0]
        replicas = max(word.replicas for word in words if word.master == named)
        await self._go_to(self._fleet.at(named), replicas)

    async def _votes(self, deadline: float) -> tuple[list[_Word], list[str]]:
        """What the sentinels say, until a majority agrees, and why others say nothing."""
        asked = [
            asyncio.create_task(self._named_by(each, deadline), name="clusterdb-cache: ask")
            for each in self._sentinels
        ]
        words: list[_Word] = []
        votes: Counter[Address] = Counter()
        reasons: list[str] = []
        try:
            for answer in asyncio.as_completed(asked):
                try:
                    word = await answer
                except (BackendUnavailable, ServerError) as error:
                    reasons.append(str(error))
                    continue
                words.append(word)
                votes[word.master] += 1
                if votes[word.master] * 2 > len(asked):
                    break
        finally:
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        return words, reasons

    async def _named_by(self, sentinel: Node, deadline: float) -> _Word:
        questions: list[Command] = [
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master),
            ("SENTINEL", "REPLICAS", self._master),
        ]
        answer, replicas = await sentinel.calls(questions, deadline)
        who = f"the sentinel at {sentinel.name}"
        if answer is None:
            raise BackendUnavailable(f"{who} knows no master {self._master!r}: check the name")
        for reply in (answer, replicas):
            if isinstance(reply, ServerError):
                raise BackendUnavailable(f"{who} refuses to say where the master is: {reply}")
        able = sum(
            b"down" not in each[b"flags"] and each[b"role-reported"] == b"slave"
            for each in replicas
        )
        return _Word(Address(answer[0].decode(), int(answer[1])), able)

    async def _go_to(self, node: Node, replicas: int) -> None:
        if node is self._primary:
            self._replicas = replicas
            return
        role = await node.call(("ROLE",), self._now() + _ANSWER_WITHIN)
        if role[0] != b"master":
            raise BackendUnavailable(f"{node.name} is to be the master, but says {role[0]!r}")
        self._primary, self._replicas = node, replicas
        self.version += 1
        self._fleet.keep([node])

    # -- life

    async def aclose(self) -> None:
        self._closed = True
        running = [task for task in (self._watching, self._finding) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        for node in self._sentinels:
            await node.aclose()
        await self._fleet.aclose()

    def forked(self) -> None:
        self._finding = self._watching = None
        for node in self._sentinels:
            node.forked()
        self._fleet.forked()


async def _all(
    node: Node, commands: Sequence[Command], deadline: float, write: bool, bulk: bool
) -> list[Reply]:
    try:
        return await node.calls(commands, deadline, write=write, bulk=bulk)
    except BackendUnavailable as error:
        return [error] * len(commands)


def _may_mean_a_change(reply: Reply) -> bool:
    if isinstance(reply, ServerError):
        return reply.code == _NO_MASTER or reply.code in NOT_NOW
    return isinstance(reply, BackendUnavailable)


def _meaning(reply: Reply, node: Node) -> Reply:
    """A refusal of a server that is no master, or not ready, as `BackendUnavailable`."""
    if not isinstance(reply, ServerError):
        return reply
    if reply.code == _NO_MASTER:
        return BackendUnavailable(f"{node.name} is no master now: {reply}")
    return as_unavailable(reply, node.name)


def _seen(task: asyncio.Task[None]) -> None:
    """Look at the error, which those who wait raise, so that nothing is logged if nobody does."""
    if not task.cancelled():
        task.exception()
