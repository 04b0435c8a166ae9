"""Reads from replicas, where the level `eventual` and `Redis(read_replicas=True)` allow them.

How far a replica is behind is measured in time, by one clock, ours. Several times within
``max_replica_lag`` a primary is asked how far its stream of writes has got, and then its replicas
how far they have followed. A replica that has reached the offset which its primary told of when it
was asked at time t holds every write that was done before t: it is *proved fresh* at t. Nothing
that servers say of time is believed; a link that is down, a frozen replica and a slow one are one
case: no new proof.

* A proof belongs to the connection that carried it, and reads go over that very connection: behind
  the same address another process may start, with older data.
* A read must answer within ``max_replica_lag`` of the proof; if it does not, or answers with an
  error, the primary is asked. The record's ``age_bound`` is the age of the proof at the reply.
* What this process wrote within ``max_replica_lag`` is read from the primary, so it reads its own
  writes; so are tags, claims and whatever was large.

The bound is against the primary that we follow; where it was replaced and we don't know yet, it
holds against the old one, as for any read from that. While a slot moves, a replica may miss a key
that is on its way; a load finds it, as claims go to primaries.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Sequence
from math import inf
from typing import Final, NamedTuple

from ...errors import BackendUnavailable, CacheError, ServerError
from ...transport import Command, Connection, Node, Reply
from .health import info_fields
from .link import Link
from .scripts import resent

__all__ = ["Replicas"]

_LOOKS: Final = 4
"""How often replicas are looked at within the lag that is allowed."""

_QUESTION: Final[Command] = ("INFO", "replication")


class _Offset(NamedTuple):
    """How far a primary had got at a time: the offset it had not passed before then."""

    at: float
    stream: str
    offset: int


class _Proof(NamedTuple):
    """The server behind a connection holds all that its primary had done at a time."""

    connection: Connection
    at: float


class Replicas:
    """The replicas of one backend; ``lag`` is how many seconds they may be behind."""

    def __init__(self, link: Link, lag: float) -> None:
        self._link = link
        self._lag = lag
        self._offsets: dict[Node, deque[_Offset]] = {}
        self._proofs: dict[Node, list[_Proof]] = {}
        self._written: dict[bytes, float] = {}
        self._all_written = -inf
        self._task: asyncio.Task[None] | None = None

    # -- life

    def start(self) -> None:
        """Look at the replicas from now on, in the running loop."""
        task, loop = self._task, asyncio.get_running_loop()
        if task is None or task.done() or task.get_loop() is not loop:
            self.forked()
            self._task = asyncio.create_task(self._look_on(), name="clusterdb-cache: replicas")

    async def aclose(self) -> None:
        """End the looking. Idempotent."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait({task})

    def forked(self) -> None:
        """In the child of a fork: the proofs are about the parent's connections."""
        self._task = None
        self._offsets, self._proofs = {}, {}

    # -- proofs

    async def _look_on(self) -> None:
        while True:
            primaries = self._link.topology.nodes()
            for gone in self._offsets.keys() - set(primaries):
                del self._offsets[gone]
                self._proofs.pop(gone, None)
            await asyncio.gather(*[self._look_at(primary) for primary in primaries])
            self._forget_written()
            await asyncio.sleep(self._lag / _LOOKS)

    async def _look_at(self, primary: Node) -> None:
        """Ask a primary how far it has got, and then each of its replicas."""
        now, deadline = self._link.now(), self._link.now() + self._lag
        offsets = self._offsets.setdefault(primary, deque())
        while offsets and offsets[0].at < now - 2 * self._lag:
            offsets.popleft()
        try:
            said = info_fields(await primary.call(_QUESTION, deadline))
        except CacheError:  # without a new offset the replicas get too old by themselves
            pass
        else:
            if said.get("role") == "master":
                offset = int(said["master_repl_offset"])
                offsets.append(_Offset(now, said["master_replid"], offset))
        replicas = self._link.topology.replicas(primary)
        found = await asyncio.gather(*[self._proved(each, offsets, deadline) for each in replicas])
        self._proofs[primary] = [proof for proof in found if proof is not None]

    async def _proved(
        self, replica: Node, offsets: Sequence[_Offset], deadline: float
    ) -> _Proof | None:
        try:
            connection = await replica.connection(deadline)
            said = info_fields(await connection.call(_QUESTION, deadline))
        except CacheError:
            return None
        if said.get("role") != "slave":
            return None
        stream, offset = said["master_replid"], int(said.get("slave_repl_offset", "-1"))
        reached = [each.at for each in offsets if each.stream == stream and each.offset <= offset]
        return _Proof(connection, max(reached)) if reached else None

    def _usable(self, primary: Node) -> list[_Proof]:
        oldest = self._link.now() - self._lag
        return [
            proof
            for proof in self._proofs.get(primary, ())
            if proof.at > oldest and proof.connection.lost is None
        ]

    def problems(self) -> list[str]:
        """Sentences for a person: primaries whose replicas answer nothing now."""
        return [
            f"no replica of {primary.name} is known to be within max_replica_lag {self._lag:g} s: "
            f"its keys are read from it"
            for primary in self._link.topology.nodes()
            if not self._usable(primary)
        ]

    # -- what this process wrote

    def wrote(self, names: Iterable[bytes]) -> None:
        """Keys that were written, or may have been, just now."""
        self._written.update(dict.fromkeys(names, self._link.now()))

    def wrote_all(self) -> None:
        """Any key may have been changed just now."""
        self._all_written = self._link.now()

    def _forget_written(self) -> None:
        before = self._link.now() - self._lag
        self._written = {name: at for name, at in self._written.items() if at > before}

    # -- reads

    def _proof_for(self, name: bytes) -> _Proof | None:
        """A replica that may answer about a key; ``None`` where its primary has to."""
        written = max(self._written.get(name, -inf), self._all_written)
        if written >= self._link.now() - self._lag:
            return None
        try:
            usable = self._usable(self._link.topology.node_for(name))
        except BackendUnavailable:
            return None
        return random.choice(usable) if usable else None

    async def ask(
        self, commands: Sequence[Command], names: Sequence[bytes], deadline: float
    ) -> tuple[list[Reply], list[float]]:
        """The replies to reads, each of the key at its place, and how old at most each is.

        Cost: one round trip to the replicas at once; one more to the primaries for what has no
        replica that may answer, or was not answered in time.
        """
        replies: list[Reply] = [None] * len(commands)
        ages = [0.0] * len(commands)
        groups: dict[_Proof, list[int]] = {}
        owed: list[int] = []
        for name, places in _places(names).items():
            proof = self._proof_for(name)
            (owed if proof is None else groups.setdefault(proof, [])).extend(places)
        answers = await asyncio.gather(
            *[self._ask_replica(proof, commands, at, deadline) for proof, at in groups.items()]
        )
        for (proof, at_replica), answer in zip(groups.items(), answers, strict=True):
            age = self._link.now() - proof.at
            if answer is None or age > self._lag:
                owed += at_replica
                continue
            for at, reply in zip(at_replica, answer, strict=True):
                replies[at], ages[at] = reply, age
        if owed:
            mine, keys = [commands[at] for at in owed], [names[at] for at in owed]
            found = await self._link.send(mine, keys, deadline=deadline)
            for at, reply in zip(owed, found, strict=True):
                replies[at] = reply
        return replies, ages

    async def _ask_replica(
        self, proof: _Proof, commands: Sequence[Command], places: list[int], deadline: float
    ) -> list[Reply] | None:
        """What a replica answers while its proof is new enough; ``None`` where it refuses."""
        deadline = min(deadline, proof.at + self._lag)
        mine = [commands[at] for at in places]
        try:
            answer = await proof.connection.calls(mine, deadline)
            if any(type(each) is ServerError and each.code == "NOSCRIPT" for each in answer):
                mine = [resent(each) if each[0] == "EVALSHA" else each for each in mine]
                answer = await proof.connection.calls(mine, deadline)
        except BackendUnavailable:
            return None
        refused = any(type(each) is ServerError and each.code != "WRONGTYPE" for each in answer)
        return None if refused else answer


def _places(names: Sequence[bytes]) -> dict[bytes, list[int]]:
    """Where each name stands, so that what is asked about one goes to one server."""
    found: dict[bytes, list[int]] = {}
    for at, name in enumerate(names):
        found.setdefault(name, []).append(at)
    return found
