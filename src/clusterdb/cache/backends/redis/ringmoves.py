"""Moves of keys on a ring of single copies: from one set of weights to another, while it is used.

The placement is on all servers (:mod:`...partition.placement`), and no server is moved from or to
before every connection that may still carry commands by the one before has ended:

1. Each server gets the present placement, where it has none, and loses keys of ours that are not
   its own by it: what was left over from other weights must not come into reach.
2. Each server gets the next one, *announced*. Processes that look learn of it within a second, and
   connect anew; a connection that is still there after a few seconds, and was not opened by one who
   knows, is ended (`CLIENT KILL`), so that a process that stood still can't carry on.
3. Each server gets it as *moving*, and keys are taken over (:mod:`.taking`), until a look at all
   servers has found none that has to go.
4. Each server gets the new weights as *settled*.

Whoever goes on after another one died or stood still first gives all servers a token of its own,
by comparing with what was there: from then on the other one's steps are refused. All of it may be
repeated.
"""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from ...errors import BackendUnavailable, CacheError, NotSupported, ServerError
from ...partition.placement import NOBODY, Placed, Placement, Stage
from ...partition.reweighing import Reweighed, place_of, reweighed
from ...transport import Command
from ...transport.placed import PlacedRing
from ...transport.placing import SHARED_FOR
from ...upkeep import Balance, Move
from .link import Link, explained
from .names import Names
from .scripts import Script, resent
from .taking import Taken, Taking

__all__ = ["RingMoves"]

_AT_ONCE: Final = 1000
_MOST_PLACES: Final = 500_000
_FIRST: Final = 16
_MOST_KEYS: Final = 200
_BYTES: Final = 4 << 20
"""About so many bytes are copied in one step."""

_BUSY: Final = 0.1
_MARGIN: Final = 0.5
_GRACE: Final = 5.0
"""Seconds within which a process that works has looked, and connected anew."""

_ENDS_WITHIN: Final = 10.0

# what is there (empty: nothing), what is to be -> 1 | 0
_SWAP: Final = Script(
    r"""
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
""",
    "allow-oom",  # a full server, too, has to learn that a move has ended
)

# version, whether it has to be an entry -> 1 | 0
_SWEEP: Final = Script(
    r"""
local version, stage = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (%a+) ')
if version ~= ARGV[1] or stage ~= 'settled' then
  return redis.error_reply('LOST another process moves the keys')
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'stream' then return 0 end
if ARGV[2] == '1' then
  local head = kind == 'string' and redis.call('GETRANGE', KEYS[1], 0, 32) or ''
  local ours = #head == 33 and string.byte(head, 1) == 0 or string.sub(head, 1, 2) == '\193\219'
  if not ours then return 0 end
end
return redis.call('UNLINK', KEYS[1])
""",
    "allow-oom",
)


class RingMoves:
    """The moves of the ring that ``link`` leads to."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names
        self._walk: _Walk | None = None

    @property
    def _ring(self) -> PlacedRing:
        ring = self._link.topology
        if not isinstance(ring, PlacedRing):
            raise NotSupported("keys move on a ring of single copies only")
        return ring

    # -- looking

    async def balance(self, threshold: float) -> Balance:
        """What each server has, and what would even it out. Cost: a look at all names."""
        if self._link.copies > 1:
            raise NotSupported("keys don't move while writes wait for replicas of ring servers")
        placed = self._ring.placing.placed
        if placed.placement.moves:
            raise NotSupported(
                "keys move already: 'cache maintenance status' shows how far it is, "
                "'cache maintenance rebalance' goes on with it"
            )
        places, thinned = await self._places(placed)
        weights, virtual_nodes = placed.placement.weights, placed.placement.virtual_nodes
        found = await asyncio.to_thread(reweighed, weights, virtual_nodes, places, threshold)
        return _balance(found, thinned)

    async def _places(self, placed: Placed) -> tuple[Sequence[int], int]:
        """The places of the keys, in order: all, or those of one in so many."""
        places, mask = array("Q"), 0
        for name in self._ring.shares():
            async for names in self._names_on(name):
                for each in names:
                    if self._names.moves(each) and placed.seat(each).first == name:
                        place = place_of(each)
                        if not place & mask:
                            places.append(place)
                while len(places) > _MOST_PLACES:
                    mask = mask * 2 + 1
                    places = array("Q", [place for place in places if not place & mask])
        return sorted(places), mask + 1

    async def under_way(self) -> bool:
        """Whether keys move, or somebody has begun to. One round trip."""
        found = map(Placement.read, (await self._texts()).values())
        return any(each is not None and each.moves for each in found)

    async def _texts(self) -> dict[str, bytes]:
        """What each server keeps of the placement. Raises `BackendUnavailable` if one is away."""
        servers = self._ring.shares()
        record: Command = ("GET", self._names.placement)
        texts = await asyncio.gather(*[self._asked(name, record) for name in servers])
        return {name: text or b"" for name, text in zip(servers, texts, strict=True)}

    async def _names_on(self, server: str) -> AsyncGenerator[list[bytes], None]:
        cursor: bytes = b"0"
        while True:
            cursor, names = await self._scanned(server, cursor)
            yield names
            if cursor == b"0":
                return

    async def _scanned(
        self, server: str, cursor: bytes, count: int = _AT_ONCE
    ) -> tuple[bytes, list[bytes]]:
        command = ("SCAN", cursor, "MATCH", self._names.everything, "COUNT", count)
        [cursor, names] = await self._asked(server, command)
        return cursor, names

    async def _asked(self, server: str, command: Command, *, write: bool = False) -> Any:
        [reply] = await self._ring.ask(server, [command], self._link.deadline(), write=write)
        if isinstance(reply, CacheError):
            raise explained(reply)
        return reply

    # -- beginning

    async def begin(self, weights: Mapping[str, float]) -> None:
        """Let keys be placed by ``weights``; to be gone on with by `resume` and `step`. Raises
        `BackendUnavailable` where a server is away: then nothing moves yet.
        """
        texts = await self._texts()
        known = [each for text in texts.values() if (each := Placement.read(text)) is not None]
        if any(each.moves for each in known):
            return
        present = max(known, key=lambda each: each.epoch, default=None)
        if present is None or set(present.weights) != set(texts):  # none yet, or of other servers
            epoch = 1 if present is None else present.epoch + 1
            configured = self._ring.placing.configured
            present = replace(configured, epoch=epoch, change=_token())
            await self._write(dict.fromkeys(texts, present), texts)
        elif any(text != present.text() for text in texts.values()):
            raise BackendUnavailable(
                "a server has just come back, and does not know yet how keys are placed: it is "
                "told within seconds; begin again then"
            )
        await self._settle_here(present)
        for server in texts:
            await self._old_connections(server, present)  # that we may ask, before anything changes
        await self._sweep(present)
        following = replace(
            present,
            epoch=present.epoch + 1,
            weights=dict(weights),
            before=present.weights,
            stage="announced",
            change=_token(),
        )
        await self._write(dict.fromkeys(texts, following), dict.fromkeys(texts, present.text()))

    async def _write(self, wanted: Mapping[str, Placement], there: Mapping[str, bytes]) -> None:
        """Change the placement on servers, from what was read there. Raises `BackendUnavailable`
        if a server is away, or has another one by now.
        """
        for name, placement in wanted.items():
            text = placement.text()
            if there[name] == text:
                continue
            swap = resent(_SWAP.call(self._names.placement, there[name], text))
            if await self._asked(name, swap, write=True) != 1:
                raise BackendUnavailable(f"{name}: another process moves the keys now")

    async def _settle_here(self, placement: Placement) -> None:
        """Let this process know of a placement that it has just written."""
        ring, until = self._ring, self._link.now() + _ENDS_WITHIN
        while ring.placing.version != placement.version and self._link.now() < until:
            await ring.refresh(self._link.deadline())
            await ring.placing.look(ring.nodes(), self._link.deadline())
        await ring.refresh(self._link.deadline())

    async def _sweep(self, present: Placement) -> None:
        """Remove keys of ours from servers that they don't belong to."""
        placed = Placed(present)
        for name in self._ring.shares():
            async for names in self._names_on(name):
                foreign = [each for each in names if self._is_foreign(each, name, placed)]
                commands = [
                    resent(
                        _SWEEP.call_many(
                            [each, self._names.placement],
                            [present.version, int(self._names.is_entry(each))],
                        )
                    )
                    for each in foreign
                ]
                if commands:
                    deadline = self._link.deadline()
                    for reply in await self._ring.ask(name, commands, deadline, write=True):
                        if isinstance(reply, Exception):
                            raise reply

    def _is_foreign(self, name: bytes, server: str, placed: Placed) -> bool:
        if self._names.moves(name):
            return placed.seat(name).first != server
        return self._names.of_a_move(name)

    # -- going on

    async def resume(self) -> None:
        """Take the move over from whoever was at it, and see to it that all know of it. Takes some
        seconds, where it had not gone so far.
        """
        texts = await self._texts()
        found = {name: Placement.read(text) for name, text in texts.items()}
        known = [each for each in found.values() if each is not None]
        latest = max(known, key=lambda each: (each.epoch, each.stage == "moving"), default=None)
        self._walk = None
        if latest is None:
            return
        if not latest.moves:  # it was about to end
            await self._write(dict.fromkeys(texts, latest), texts)
            return
        token = _token()
        mine = {
            name: replace(latest, token=token, stage=_stage(each, latest))
            for name, each in found.items()
        }
        await self._write(mine, texts)
        await self._settle_here(latest)
        if any(each.stage != "moving" for each in mine.values()):
            await self._end_old_connections(latest)
        final = replace(latest, token=token, stage="moving")
        there = {name: each.text() for name, each in mine.items()}
        await self._write(dict.fromkeys(texts, final), there)
        self._walk = _Walk(Taking(self._link, self._ring, self._names, Placed(final)), texts)

    async def _end_old_connections(self, placement: Placement) -> None:
        """Wait until processes have connected anew; end what connections did not."""
        began = self._link.now()
        await asyncio.sleep(SHARED_FOR + _MARGIN)
        for server in self._ring.shares():
            while old := await self._old_connections(server, placement):
                waited = self._link.now() - began
                if waited > _GRACE + _ENDS_WITHIN:
                    raise BackendUnavailable(
                        f"{server} has connections that don't end, or can't be told apart: let the "
                        f"user of backend.username have +client|setname and +client|kill"
                    )
                for number in old if waited > _GRACE else ():
                    await self._end(server, number)
                await asyncio.sleep(_BUSY)

    async def _old_connections(self, server: str, placement: Placement) -> list[int]:
        text = await self._asked(server, ("CLIENT", "LIST"))
        ring = self._ring
        label, database = ring.placing.label, ring.database(server)
        return _others(text.decode(), label, placement.version, database)

    async def _end(self, server: str, number: int) -> None:
        try:
            await self._asked(server, ("CLIENT", "KILL", "ID", number))
        except ServerError as error:
            if "No such client" not in str(error):
                raise

    async def step(self, limit: int) -> tuple[int, bool]:
        """Move about ``limit`` keys. How many moved, and whether that was the end. To be called
        after `resume`; after an error, `resume` has to come first again.
        """
        walk = self._walk
        if walk is None:
            return 0, True
        moved = 0
        servers = self._ring.shares()
        pop: Command = ("LPOP", self._names.wishes, min(limit, _MOST_KEYS))
        wishes = await asyncio.gather(*[self._asked(server, pop, write=True) for server in servers])
        for name, wished in zip(servers, wishes, strict=True):
            moved += await self._take(walk, name, wished or [])
        walk.cursor, names = await self._scanned(walk.at, walk.cursor, min(limit, _MOST_KEYS))
        moved += await self._take(walk, walk.at, names)
        if walk.cursor == b"0" and walk.next_server():
            if not walk.found:
                await self._finish(walk)
                return moved, True
            if walk.found == walk.again:
                await asyncio.sleep(_BUSY)  # what is left is held, or changes all the time
            walk.begin()
        return moved, False

    async def _take(self, walk: _Walk, server: str, names: Sequence[bytes]) -> int:
        """Take over what has to go of ``names``, and end what is half done; how many went."""
        marked = [key for each in names if (key := self._names.marked(each)) is not None]
        await walk.taking.finish(server, marked)
        walk.found += len(marked)
        waiting, moved = self._to_go(walk, server, names), 0
        while waiting:
            some, waiting = waiting[: walk.count], waiting[walk.count :]
            taken = await walk.taking.take(server, some)
            walk.after(taken)
            moved += taken.moved
        return moved

    def _to_go(self, walk: _Walk, server: str, names: Sequence[bytes]) -> list[bytes]:
        """The keys that ``server`` has to give away."""
        found: list[bytes] = []
        for name in dict.fromkeys(names):
            if self._names.moves(name):
                seat = walk.placed.seat(name)
                if seat.first == server and seat.then is not None:
                    found.append(name)
        return found

    async def _finish(self, walk: _Walk) -> None:
        """No key has to go any more: throw away what is left of the move, and end it."""
        for name in self._ring.shares():
            async for names in self._names_on(name):
                rest = [each for each in names if self._names.of_a_move(each)]
                await walk.taking.drop(name, rest)
        placement = walk.placed.placement
        settled = replace(
            placement, epoch=placement.epoch + 1, before=None, stage="settled", token=NOBODY
        )
        servers = self._ring.shares()
        there = dict.fromkeys(servers, placement.text())
        await self._write(dict.fromkeys(servers, settled), there)
        self._walk = None
        await self._settle_here(settled)


class _Walk:
    """Where a look at all servers is. ``found`` keys had to go in this round, ``again`` of them
    still have to.
    """

    def __init__(self, taking: Taking, servers: Mapping[str, object]) -> None:
        self.taking = taking
        self.placed = taking.placed
        self._servers = list(servers)
        self._size = _BYTES // _FIRST
        self.begin()

    def begin(self) -> None:
        """Look at all of them anew."""
        self._left = list(self._servers)
        self.at = self._left.pop()
        self.cursor = b"0"
        self.found = self.again = 0

    def next_server(self) -> bool:
        """Go on with the next one; whether there was none."""
        if not self._left:
            return True
        self.at = self._left.pop()
        return False

    @property
    def count(self) -> int:
        """How many keys are taken at once: as many as have the size of a step, by the last ones."""
        return max(1, min(_MOST_KEYS, _BYTES // max(1, self._size)))

    def after(self, taken: Taken) -> None:
        """Some were taken."""
        tried = taken.moved + taken.again
        self.found += tried
        self.again += taken.again
        if tried:
            self._size = max(taken.size // tried, self._size // 2)


def _stage(found: Placement | None, latest: Placement) -> Stage:
    """The stage in which a server is told of a move that is gone on with."""
    return found.stage if found is not None and found.epoch == latest.epoch else "held"


def _token() -> str:
    return os.urandom(8).hex()


def _others(clients: str, label: str, version: str, database: int) -> list[int]:
    """Of what ``CLIENT LIST`` says, the connections of this cache that may carry commands by a
    placement other than ``version``; one of its name in another database is another cache. One
    that has not said yet by which, and is younger than a second, was opened after all servers
    were told: it will be this one.
    """
    found: list[int] = []
    for line in clients.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split(" "))
        name = fields.get("name", "")
        cache, _, known = name.rpartition(":")
        unsaid = name == label and int(fields["age"]) >= 1
        ours = cache == label and int(fields["db"]) == database
        if unsaid or (ours and known != version):
            found.append(int(fields["id"]))
    return found


def _balance(found: Reweighed, thinned: int) -> Balance:
    return Balance(
        loads={name: load * thinned for name, load in found.before.items()},
        moves=tuple(
            [
                Move(part=number, source=source, target=target, keys=keys * thinned)
                for number, ((source, target), keys) in enumerate(sorted(found.flows.items()))
            ]
        ),
        least=found.least * thinned,
        weights=found.weights if found.flows else {},
    )
