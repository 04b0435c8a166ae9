"""The near tier over Redis: which connection a read takes, and what of it is kept.

A read that may be kept goes over the tracked connection of its server (:mod:`.tracking`) with a
mark on its key: the claim of the near tier, which a push for the key, or the end of the connection,
takes away. Reads that may not (large values, servers without tracking) go as they do without a near
tier. The lease of the tables is the least of what the connected servers vouch for: their
``verified_at``, and where they could be replaced the moment up to which they surely were primaries.
A server that vouches for nothing takes its entries with it, and the others go on.

An entry with tags also depends on what is known of them (:mod:`.known`): a push for a nonce ends
the tag's state, and with it every entry near that has it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ...claims import Claim
from ...codec import Sealed
from ...config import Redis
from ...errors import BackendUnavailable
from ...failpoints import FAILPOINTS, hit
from ...near import NearTier
from ...protocols import ServerInfo
from ...settings import RegionSettings
from ...table import Table
from ...transport import Command, Node, Reply
from ...types import FOREVER, MISSING, Record
from .confirming import Confirming
from .known import Known, state_of
from .link import Link
from .names import REGION, TAG, Names
from .nonces import REGION_TAG, Nonces
from .reading import Reading
from .scripts import READ
from .tracking import Tracked

__all__ = ["Nearby"]

_TICK: Final = 1.0
_SWEEP: Final = 1000


class Nearby:
    """The near tier of one backend. ``used`` is told of keys that were used near, by region."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        reading: Reading,
        confirming: Confirming,
        settings: Mapping[str, RegionSettings],
        used: Callable[[str, Iterable[str]], None],
        config: Redis,
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._reading = reading
        self._confirming = confirming
        self._settings = settings
        self._used = used
        self._cluster = config.cluster
        self.tier = NearTier(link.now(), config.near_total)
        self._tracked: dict[Node, Tracked] = {}
        self._leaving: list[Tracked] = []
        self._known = Known(nonces, self._tracked_for)
        self._version = -1
        self._upkeep: asyncio.Task[None] | None = None

    # -- life

    @property
    def wanted(self) -> bool:
        """Whether any region keeps something near."""
        return self.tier.max_staleness < FOREVER

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        """Make or change the tables of regions."""
        for name, settings in regions.items():
            outage = settings.loads.stale_if_error
            self.tier.add(name, settings.near, counted=False, outage=outage)

    def table(self, region: str) -> Table | None:
        """The table that answers hits of a region, if it keeps any."""
        return self.tier.table(region) if self.tier.keeps(region) else None

    def start(self) -> None:
        """Begin to track the servers, in the running loop."""
        if self._upkeep is not None and self._upkeep.get_loop() is not asyncio.get_running_loop():
            self._abandon()  # the loop that it lived in has ended
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up(), name="clusterdb-cache: near tier")
        self._follow_topology()

    async def aclose(self) -> None:
        """End every connection, and keep nothing."""
        upkeep, tracked = self._upkeep, [*self._tracked.values(), *self._leaving]
        self._abandon()
        if upkeep is None or upkeep.get_loop() is not asyncio.get_running_loop():
            return
        upkeep.cancel()
        await asyncio.wait([upkeep])
        for each in tracked:
            await each.aclose()

    def forked(self) -> None:
        """In the child of a fork: the connections are the parent's."""
        self.tier.forked()
        self._abandon()

    def _abandon(self) -> None:
        """Forget the connections, and what was read over them."""
        self._upkeep, self._tracked, self._leaving, self._version = None, {}, [], -1
        self._known.clear()
        self.tier.lapse()

    def look(self, servers: Sequence[ServerInfo]) -> tuple[ServerInfo, ...]:
        """``servers``, with why nothing is kept near of one."""
        why = {node.name: tracked.problem for node, tracked in self._tracked.items()}
        return tuple([replace(each, near=why.get(each.name, "")) for each in servers])

    @property
    def problems(self) -> list[str]:
        """Sentences for a person: servers that nothing is kept of."""
        return [each.problem for each in self._tracked.values() if each.problem]

    # -- reading

    async def read(
        self, region: str, keys: Sequence[str], stale: bool, deadline: float
    ) -> list[Record | None]:
        """As `Reading.read`, from the near tier where it answers. A record that may be kept has its
        ``near``; one of tier ``near`` counts as a hit of its table.
        """
        now = self._link.now()
        if self._version != self._link.topology.version:
            self._follow_topology()
        records = [self.tier.read(region, key, now) for key in keys]
        missing = [at for at, record in enumerate(records) if record is None]
        if not missing:
            return records
        marks: dict[int, Claim] = {}
        try:
            refused = await self._ask(region, keys, missing, stale, deadline, records, marks)
            if refused:
                asked = [keys[at] for at in refused]
                found = await self._reading.read(region, asked, stale=stale, deadline=deadline)
                for at, record in zip(refused, found, strict=True):
                    records[at] = record
        except BaseException:
            self.release(region, records)
            raise
        finally:
            for at, mark in marks.items():
                held = records[at]
                if held is None or held.near is None:
                    self.tier.release(region, mark)
        return records

    def release(self, region: str, records: Iterable[Record | None]) -> None:
        """Keep none of ``records``."""
        for record in records:
            if record is not None and record.near is not None:
                self.keep(region, record, MISSING)

    def keep(self, region: str, record: Record, value: object) -> None:
        """See :meth:`Backend.keep`."""
        self.tier.keep(region, record, value, self._link.now())

    async def _ask(
        self,
        region: str,
        keys: Sequence[str],
        places: Sequence[int],
        stale: bool,
        deadline: float,
        records: list[Record | None],
        marks: dict[int, Claim],
    ) -> list[int]:
        """Ask for ``places`` over tracked connections; which of them got no answer there."""
        sent_at = self._link.now()
        atomic = stale or self._settings[region].grace > 0
        groups: dict[Tracked, list[int]] = {}
        refused: list[int] = []
        for at in places:
            name = self._names.entry(region, keys[at])
            tracked = None if self._reading.is_large(name) else self._tracked_for(name)
            if tracked is None:
                refused.append(at)
                continue
            groups.setdefault(tracked, []).append(at)
            mark = self.tier.mark(region, keys[at], tracked.source, sent_at)
            if mark is not None:
                marks[at] = mark
        sent = [
            (tracked, found, self._send(tracked, region, keys, found, stale, atomic, deadline))
            for tracked, found in groups.items()
        ]
        answers = await asyncio.gather(*[future for *_, future in sent], return_exceptions=True)
        if FAILPOINTS:
            await hit("after-reply-before-install")
        opened: dict[int, Sealed] = {}
        for (tracked, found, _), answer in zip(sent, answers, strict=True):
            if isinstance(answer, BackendUnavailable):
                refused += found
                continue
            if isinstance(answer, BaseException):
                raise answer
            for number, at in enumerate(found):
                reply = answer[number] if atomic else answer[2 * number : 2 * number + 2]
                if tracked.refuses(reply):
                    refused.append(at)
                    continue
                record, sealed = self._reading.opened(
                    region, keys[at], reply, exactly=atomic, stale=stale, sent_at=sent_at
                )
                records[at] = record
                if sealed is not None:
                    opened[at] = sealed
        await self._judge(region, opened, records, marks, sent_at, deadline)
        return refused

    def _send(
        self,
        tracked: Tracked,
        region: str,
        keys: Sequence[str],
        places: Sequence[int],
        stale: bool,
        atomic: bool,
        deadline: float,
    ) -> Future[list[Reply]]:
        connection = tracked.connection
        assert connection is not None, "only tracked servers are asked"
        commands: list[Command] = []
        for at in places:
            name = self._names.entry(region, keys[at])
            if atomic:
                commands.append(READ.call(name, "1" if stale else "0"))
            else:
                commands += [("GET", name), ("PTTL", name)]
        return connection.calls(commands, deadline)

    async def _judge(
        self,
        region: str,
        opened: Mapping[int, Sealed],
        records: list[Record | None],
        marks: Mapping[int, Claim],
        sent_at: float,
        deadline: float,
    ) -> None:
        """Take out the records whose tags have ended; give the others the right to be kept."""
        stamps = [sealed.tags for sealed in opened.values() if sealed.tags]
        current = await self._known.current(region, stamps, deadline) if stamps else {}
        for at, sealed in opened.items():
            record = records[at]
            if any(current.get(tag) != nonce for tag, nonce in sealed.tags):
                records[at] = record = None
            mark = marks.get(at)
            if record is None or mark is None or record.stale:
                continue
            needs = self._known.needs(region, sealed.tags)
            if needs is not None:
                if needs:
                    self.tier.depend(region, mark, needs)
                left = record.expires_in
                expires = FOREVER if left is None else sent_at + left
                records[at] = replace(record, near=(mark, expires))

    # -- what happened

    def drop(self, region: str, keys: Iterable[str]) -> None:
        """Something happens to keys, or has: what is near goes, and what is on its way."""
        now = self._link.now()
        for key in keys:
            self.tier.drop(region, key, now)

    def end_tags(self, tags: Iterable[str]) -> None:
        """Tags end, or have ended."""
        for tag in tags:
            self._end(tag)

    def clear(self, region: str) -> None:
        """A region is cleared, or was."""
        self._end(state_of(region, REGION_TAG))
        self.tier.clear(region)

    def _end(self, state: str) -> None:
        self._known.end(state)
        self.tier.end_tag(state)

    def _changed(self, names: list[bytes]) -> None:
        """A server pushed the names of keys that changed."""
        now = self._link.now()
        for name in names:
            what = self._names.meaning(name)
            if what is None:
                continue
            kind, key = what
            if kind == TAG:
                self._end(key)
            elif kind == REGION:
                self._end(state_of(key, REGION_TAG))
            else:
                self.tier.drop(kind, key, now)

    # -- the servers

    def _follow_topology(self) -> None:
        """Track each primary, and none that is not one any more."""
        topology = self._link.topology
        self._version = topology.version
        nodes = topology.nodes() if self.wanted else []
        for node in nodes:
            if node not in self._tracked:
                self._tracked[node] = Tracked(
                    node,
                    self._link,
                    every=self._every,
                    on_keys=self._changed,
                    on_flushed=self.tier.drop_all,
                    on_lost=self._source_ended,
                    on_verified=self._renew,
                    cluster=self._cluster,
                )
        for node in [node for node in self._tracked if node not in nodes]:
            leaving = self._tracked.pop(node)
            self._source_ended(leaving)  # now: no lease counts it any more
            leaving.cancel()
            self._leaving.append(leaving)
        self._renew()

    def _tracked_for(self, name: bytes) -> Tracked | None:
        """The tracked connection of a key's server, while it vouches for what it says."""
        if self._link.in_motion(name):
            return None  # it is kept near again where it arrives
        try:
            node = self._link.topology.node_for(name)
        except BackendUnavailable:
            return None  # who asks without us looks for the server, too
        tracked = self._tracked.get(node)
        return tracked if tracked is not None and tracked.vouches else None

    def _source_ended(self, tracked: Tracked) -> None:
        if tracked.source:
            self.tier.end_tag(tracked.source)

    def _every(self) -> float:
        return self.tier.max_staleness / 3

    def _renew(self) -> None:
        """Renew the leases to what all servers vouch for that do."""
        now, patience = self._link.now(), 2 * self.tier.max_staleness
        confirms = self._confirming.needed
        moments: list[float] = []
        for node, tracked in self._tracked.items():
            sure_at = tracked.verified_at
            if confirms:
                sure_at = min(sure_at, self._confirming.of(node).all_at)
            vouches = tracked.connection is not None and now - sure_at <= patience
            if tracked.vouches and not vouches:
                tracked.end_source()
            tracked.vouches = vouches
            if vouches:
                moments.append(sure_at)
        if moments:
            self.tier.renew(min(moments))
        else:
            self.tier.suspend()

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self._follow_topology()
            if all(each.connection is not None for each in self._tracked.values()):
                self.tier.sweep(self._link.now(), _SWEEP)  # else it may be wanted in an outage
            for region in list(self._settings):
                if self.tier.keeps(region):
                    self._used(region, self.tier.used(region))
            for each in [each for each in self._leaving if each.ended]:
                self._leaving.remove(each)
