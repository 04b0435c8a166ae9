"""The elected process: it removes what is too much in limited regions, and what nobody knows of.

A lock with a token, renewed at each look, says who it is; when it dies, another process takes over
once the lock has expired. Two that take themselves for it, as after a long pause, do no harm: each
entry is taken out of the index by one of them, and only this one removes it.

**Limits.** Every two seconds the totals of each region are read. What is too much goes in the order
of the index, over all shards: first out of the index, if nothing happened to it since, then from
its server. Who dies in between leaves an entry that the index does not know.

**Drift** is found by a slow look at everything, once in a minute or, where there are many keys, as
fast as one ``SCAN`` of some thousand keys a server and look allows: entries that the index does
not know are added (with the time of their last write, by their version); members without an entry
are forgotten; entries of a region that was cleared at once (``instant_clear``) are removed.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Final, NamedTuple

from ...clock import Clock
from ...errors import CacheError
from ...settings import RegionSettings
from ...stats import Counters
from ...transport import Command
from .index import Candidate, Index, Line, Totals
from .link import Link, explained
from .names import Names
from .nonces import REGION_TAG, Nonces
from .scripts import REMOVE, Script
from .stored import (
    LONG_HEAD,
    SHORTEST,
    is_claim,
    is_envelope,
    packed,
    region_nonce,
    version_micros,
    version_of,
)

__all__ = ["Pace", "Sweeping", "microseconds"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_AT_ONCE: Final = 500
_SCANNED_AT_ONCE: Final = 2500

# token, milliseconds; none: let go -> 1 it is ours | 0
_ELECT: Final = Script(
    r"""
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
""",
    "allow-oom",
)


class Pace(NamedTuple):
    """How often, in seconds: notes are carried to the index; the uses of a key are told anew; the
    totals are looked at, and how soon again after something was too much; everything is looked at.
    ``young`` entries are spared, and the lock outlives its holder by ``lock``.
    """

    notes: float = 0.25
    uses: float = 60.0
    sweep: float = 2.0
    busy: float = 0.5
    rest: float = 60.0
    young: float = 1.0
    lock: float = 5.0


def microseconds(clock: Clock) -> int:
    """The time since 1970."""
    return int(clock.wall() * 1_000_000)


class Sweeping:
    """The sweeps of one backend, while it is the elected one."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        index: Index,
        clock: Clock,
        counters: Mapping[str, Counters],
    ) -> None:
        self.pace = Pace()
        self.regions: dict[str, RegionSettings] = {}
        self._link = link
        self._names = names
        self._nonces = nonces
        self._index = index
        self._clock = clock
        self._counters = counters
        self._token = os.urandom(8).hex()
        self._looking: AsyncGenerator[None, None] | None = None
        self._looks_at = 0.0
        self._failing = False

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        """Take over the settings of regions."""
        for name, settings in regions.items():
            self.regions.pop(name, None)
            if settings.own_limits or settings.instant_clear:
                self.regions[name] = settings
        self.look_soon()

    def look_soon(self) -> None:
        """Look at everything at the next sweep, if this is the elected process."""
        self._looks_at = 0.0

    def forked(self) -> None:
        """In the child of a fork: the parent is the elected one."""
        self._token = os.urandom(8).hex()
        self._looking = None

    # -- election

    async def run(self) -> None:
        """Sweep, as long as this process is the elected one; try to be it otherwise."""
        while True:
            pause = self.pace.sweep
            try:
                if await self._elect(self.pace.lock):
                    if await self._sweep():
                        pause = self.pace.busy
                    await self._look_on()
            except CacheError as error:
                if not self._failing:
                    _LOG.warning("limits of regions are not kept for now: %s", error)
                self._failing, self._looking = True, None
            else:
                self._failing = False
            await asyncio.sleep(pause)

    async def leave(self) -> None:
        """Let another process be elected at once."""
        await self._elect(0)

    async def _elect(self, seconds: float) -> bool:
        name = self._names.sweeper
        command = _ELECT.call(name, self._token, int(seconds * 1000))
        [reply] = await self._link.send([command], [name], write=True, replicated=False)
        if isinstance(reply, CacheError):
            raise explained(reply)
        return bool(reply == 1)

    # -- limits

    async def _sweep(self) -> bool:
        """Whether a region was over its limits."""
        over = False
        for name, settings in list(self.regions.items()):
            if settings.own_limits:
                over |= await self._keep(name, settings)
        return over

    async def _keep(self, region: str, settings: RegionSettings) -> bool:
        """Remove what is too much in a region; whether something was."""
        over = False
        while True:
            totals = await self._index.totals(region)
            if totals.more:
                continue
            items, weight = _surplus(totals, settings)
            if items <= 0 and weight <= 0:
                return over
            over = True
            number = min(_AT_ONCE, items) if settings.max_weight is None else _AT_ONCE
            found = await self._index.lowest(region, 0, number)
            victims = _victims(found, number, items, weight)
            if settings.policy != "lfu":
                victims = self._settled(victims)
            if not victims:
                return over
            removed = await self._remove(region, victims)
            self._counters[region].evictions += removed

    def _settled(self, victims: Sequence[Candidate]) -> list[Candidate]:
        """Those whose older neighbours have been told of."""
        now, young = microseconds(self._clock), self.pace.young * 1_000_000
        for at, each in enumerate(victims):
            if abs(now - float(each.score)) < young:
                return list(victims[:at])
        return list(victims)

    async def _remove(self, region: str, victims: Sequence[Candidate]) -> int:
        """Take entries out of the index and from their servers; how many were there."""
        forgotten = await self._index.forget(region, victims)
        prefix = self._names.prefix(region).encode()
        names = [prefix + each.key for each in forgotten]
        commands: list[Command] = [("UNLINK", name) for name in names]
        replies = await self._link.send(commands, names, write=True, replicated=False)
        return replies.count(1)

    # -- drift

    async def _look_on(self) -> None:
        """One step of the look at everything."""
        if self._looking is None:
            if self._link.now() < self._looks_at:
                return
            self._looks_at = self._link.now() + self.pace.rest
            self._looking = self._look()
        try:
            await anext(self._looking)
        except StopAsyncIteration:
            self._looking = None

    async def _look(self) -> AsyncGenerator[None, None]:
        """A look at all keys of the servers, then at all members of the indexes."""
        pattern = self._names.everything
        for node in self._link.topology.nodes():
            cursor: bytes | None = None
            while cursor != b"0":
                command = ("SCAN", cursor or b"0", "MATCH", pattern, "COUNT", _SCANNED_AT_ONCE)
                cursor, names = await node.call(command, self._link.deadline())
                await self._look_at(names)
                yield
        for region, settings in list(self.regions.items()):
            if settings.own_limits:
                async for _ in self._look_for_members(region):
                    yield

    async def _look_at(self, names: Sequence[bytes]) -> None:
        """Names as a server has them: remove what was cleared, add what is not known."""
        found: dict[str, list[bytes]] = {}
        for name in names:
            parts = self._names.parts(name)
            if parts is not None and parts[0] in self.regions:
                found.setdefault(parts[0], []).append(parts[1].encode())
        for region, keys in found.items():
            settings, known = self.regions[region], keys
            if settings.instant_clear:
                known = await self._remove_cleared(region, keys)
            if settings.own_limits:
                unknown = await self._index.unknown(region, known)
                lines = await self._lines(region, unknown)
                await self._index.note(region, settings.policy, lines)

    async def _remove_cleared(self, region: str, keys: Sequence[bytes]) -> list[bytes]:
        """Remove the entries that a clear has ended; the keys of the others."""
        prefix = self._names.prefix(region).encode()
        names = [prefix + key for key in keys]
        commands: list[Command] = [("GETRANGE", name, 0, LONG_HEAD - 1) for name in names]
        heads = await self._link.send(commands, names)
        nonce = (await self._nonces.current(region, [REGION_TAG]))[REGION_TAG]
        dead = {
            name: packed(version_of(head))
            for name, head in zip(names, heads, strict=True)
            if isinstance(head, bytes)
            and is_envelope(head)
            and (nonce is None or region_nonce(head) != nonce)
        }
        removals = [REMOVE.call(name, version) for name, version in dead.items()]
        await self._link.send(removals, list(dead), write=True, replicated=False)
        return [key for key, name in zip(keys, names, strict=True) if name not in dead]

    async def _lines(self, region: str, keys: Sequence[bytes]) -> dict[str, Line]:
        """What the index has to know of entries: the last write's time, by their version."""
        prefix = self._names.prefix(region).encode()
        commands: list[Command] = []
        for name in [prefix + key for key in keys]:
            commands += [("GETRANGE", name, 0, SHORTEST - 1), ("STRLEN", name), ("PTTL", name)]
        replies = await self._link.send(commands, [prefix + key for key in keys for _ in range(3)])
        lines: dict[str, Line] = {}
        for at, key in enumerate(keys):
            head, size, left = replies[3 * at : 3 * at + 3]
            if isinstance(head, bytes) and head and left != -2 and not is_claim(head):
                time = version_micros(head)
                weight = len(key) + max(0, size - SHORTEST)
                lines[key.decode()] = ("put", time, 1, weight, left if left >= 0 else "-")
        return lines

    async def _look_for_members(self, region: str) -> AsyncGenerator[None, None]:
        """Forget the members of an index that have no entry."""
        first, prefix = 0, self._names.prefix(region).encode()
        while True:
            shards = await self._index.lowest(region, first, _AT_ONCE)
            members = [each for shard in shards for each in shard]
            if not members:
                return
            names = [prefix + each.key for each in members]
            replies = await self._link.send([("EXISTS", name) for name in names], names)
            dead = [each for each, there in zip(members, replies, strict=True) if there == 0]
            await self._index.forget(region, dead)
            first += _AT_ONCE - len(dead) // max(1, len(shards))
            yield


def _surplus(totals: Totals, settings: RegionSettings) -> tuple[int, int]:
    """Entries and bytes over the limits."""
    items, weight = settings.max_items, settings.max_weight
    return (
        0 if items is None else totals.items - items,
        0 if weight is None else totals.weight - weight,
    )


def _victims(
    shards: Sequence[Sequence[Candidate]], number: int, items: int, weight: int
) -> list[Candidate]:
    """Those with the lowest scores over all shards, as far as their order is known, until enough
    is gone. ``number`` is how many each shard was asked for.
    """
    ends = [float(shard[-1].score) for shard in shards if len(shard) == number]
    known = min(ends, default=float("inf"))
    victims: list[Candidate] = []
    for each in heapq.merge(*shards, key=_score):
        if (items <= 0 and weight <= 0) or _score(each) > known:
            break
        victims.append(each)
        items -= 1
        weight -= each.weight
    return victims


def _score(candidate: Candidate) -> float:
    return float(candidate.score)
