"""The processes of one cache on its servers: each says that it is there, and how it does.

Each has a field of one hash, ``{name}:#members``, with the time of the server's clock in it: one
small write every few seconds, of which nothing is left a minute after the last process. Before
Redis 7.4 fields can't expire by themselves, so each process once a minute removes those that were
silent for one. One string for all of them was rejected: in a large fleet every heartbeat would
write, and replicate, what all processes say.

Nothing depends on it. A heartbeat that fails is left out, and a process that lives for less than a
second, such as a command, says nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import msgspec

from ...clock import Clock
from ...errors import CacheError, ServerError
from ...members import SILENT_FOR, Member, Process, this_process
from ...stats import NearFigures
from .link import Link
from .names import Names
from .scripts import Script

__all__ = ["BEAT", "FIRST", "MOST", "Membership"]

FIRST: Final = 1.0
BEAT: Final = 5.0
MOST: Final = 256
"""How many processes are told of at most; more of them work as well, and are not shown."""

_ID_BYTES: Final = 8
_BYTES: Final = 1024
"""What is longer is none of ours."""

_SWEEP_EVERY: Final = 12
"""Heartbeats from one removal of the silent to the next."""

_DENIED: Final = ("NOPERM", "can't run this command")

# id, what it says (empty: it leaves), most of them, milliseconds, whether to remove the silent
#   -> 1 | 0 there are too many
_ANNOUNCE: Final = Script(
    r"""
local key, id, time = KEYS[1], ARGV[1], now()
local known = redis.pcall('HEXISTS', key, id)
if type(known) == 'table' then
  if not string.find(known.err, 'WRONGTYPE') then return known end
  redis.call('UNLINK', key)
  known = 0
end
if ARGV[2] == '' then return redis.call('HDEL', key, id) end
if ARGV[5] == '1' or known == 0 and redis.call('HLEN', key) >= tonumber(ARGV[3]) then
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local seen = tonumber(string.match(all[at + 1], '^{"seen":(%d+),'))
    if not seen or math.abs(time - seen) > tonumber(ARGV[4]) then
      redis.call('HDEL', key, all[at])
    end
  end
  if known == 0 and redis.call('HLEN', key) >= tonumber(ARGV[3]) then return 0 end
end
redis.call('HSET', key, id, '{"seen":' .. whole(time) .. ',' .. string.sub(ARGV[2], 2))
redis.call('PEXPIRE', key, ARGV[4])
return 1
""",
    "allow-oom",
)

# most of them, most bytes -> {milliseconds, what each says ...}
_MEMBERS: Final = Script(
    r"""
local found, length = {whole(now())}, redis.pcall('HLEN', KEYS[1])
if type(length) == 'table' then
  if string.find(length.err, 'WRONGTYPE') then return found end
  return length
end
if length > tonumber(ARGV[1]) then return found end
local all = redis.call('HGETALL', KEYS[1])
for at = 2, #all, 2 do
  if #all[at] <= tonumber(ARGV[2]) then found[#found + 1] = all[at] end
end
return found
""",
    "no-writes",
)


class _Stored(msgspec.Struct, frozen=True):
    """A process as the server has it; ``seen`` is milliseconds of the server's clock."""

    host: str
    pid: int
    program: str
    version: str
    started: float
    seen: float
    near_hits: int = 0
    near_misses: int = 0
    lag: float | None = None


class Membership:
    """This process among the others; ``figures`` says how it does."""

    def __init__(
        self,
        link: Link,
        names: Names,
        clock: Clock,
        figures: Callable[[], NearFigures],
    ) -> None:
        self._link = link
        self._name = names.members
        self._clock = clock
        self._figures = figures
        self._process: Process | None = None
        self._started = 0.0
        self._id = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """The connections are open: say so, and go on saying it."""
        self._process, self._id = None, os.urandom(_ID_BYTES).hex()
        self._started = self._clock.wall()
        self._task = asyncio.create_task(self._announce(), name="clusterdb-cache: membership")

    async def aclose(self) -> None:
        """Fall silent, and say so. One round trip where anything was said."""
        task, self._task = self._task, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        task.cancel()
        await asyncio.wait([task])
        if self._process is not None:
            with suppress(CacheError):
                await self._tell("")

    def forked(self) -> None:
        """In the child of a fork: the parent's task is not ours."""
        self._task = None

    async def members(self) -> tuple[Member, ...]:
        """Who is there, those that started first before others; none where the server can't be
        asked, or may not be. One round trip.
        """
        command = _MEMBERS.call(self._name, 2 * MOST, _BYTES)
        try:
            [reply] = await self._link.send([command], [self._name])
        except CacheError:
            return ()
        if not isinstance(reply, list):
            return ()
        now = int(reply[0])
        found = [each for raw in reply[1:] if (each := _member(raw, now)) is not None]
        return tuple(sorted(found, key=lambda each: (each.started, each.host, each.pid)))

    async def _announce(self) -> None:
        await asyncio.sleep(FIRST)
        for beat in count():
            try:
                allowed = await self._tell(self._said(), sweep=beat % _SWEEP_EVERY == 0)
            except CacheError:  # away, or full: nothing depends on it
                allowed = True
            if not allowed:
                return  # to ask again and again would fill the server's log of refusals
            await asyncio.sleep(BEAT)

    def _said(self) -> bytes:
        process = self._process = self._process or this_process()
        said: dict[str, Any] = {
            **msgspec.structs.asdict(process),
            "started": round(self._started, 3),
            **msgspec.structs.asdict(self._figures()),
        }
        return msgspec.json.encode(
            {name: value for name, value in said.items() if value is not None}
        )

    async def _tell(self, said: bytes | str, *, sweep: bool = False) -> bool:
        """Whether we may."""
        limits = MOST, int(SILENT_FOR * 1000), int(sweep)
        command = _ANNOUNCE.call(self._name, self._id, said, *limits)
        [reply] = await self._link.send([command], [self._name], write=True, replicated=False)
        return not (isinstance(reply, ServerError) and any(each in str(reply) for each in _DENIED))


def _member(stored: bytes, now: int) -> Member | None:
    """A process that was heard of lately; ``None`` for anything else that stands there."""
    try:
        found = msgspec.json.decode(stored, type=_Stored)
    except (msgspec.DecodeError, RecursionError):
        return None
    silent = (now - found.seen) / 1000
    if abs(silent) > SILENT_FOR:
        return None
    return Member(
        host=found.host,
        pid=found.pid,
        program=found.program,
        started=found.started,
        silent=max(0.0, silent),
        version=found.version,
        figures=NearFigures(
            near_hits=found.near_hits, near_misses=found.near_misses, lag=found.lag
        ),
    )
