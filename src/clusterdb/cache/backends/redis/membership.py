"""The processes of one cache on its servers: each says that it is there, and how it does.

All of them stand in one string, ``{name}:#members``, as JSON by process. A script reads it, leaves
out who has been silent for a minute by the server's clock, puts one process in, and writes it back
for a minute: one small write every few seconds, which needs no permission that entries don't, and
of which nothing is left a minute after the last process. A hash with a field a process was
rejected: until Redis 7.4 its fields can't expire.

Nothing depends on it. A heartbeat that fails is left out, and a process that lives for less than a
second, such as a command, says nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from ...clock import Clock
from ...errors import CacheError
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
_BYTES: Final = 256 * 1024
"""More than so many processes need; what is larger is none of ours."""

# id, what it says (empty: it leaves), most of them, milliseconds, most bytes -> 1
_ANNOUNCE: Final = Script(
    r"""
local time, raw, all, count = now(), redis.pcall('GET', KEYS[1]), {}, 0
if type(raw) == 'string' and #raw <= tonumber(ARGV[5]) then
  local ok, found = pcall(cjson.decode, raw)
  if ok and type(found) == 'table' then all = found end
end
for id, each in pairs(all) do
  local seen = type(each) == 'table' and tonumber(each.seen)
  if not seen or math.abs(time - seen) > tonumber(ARGV[4]) or id == ARGV[1] then all[id] = nil
  else count = count + 1 end
end
if ARGV[2] ~= '' and count < tonumber(ARGV[3]) then
  local own = cjson.decode(ARGV[2])
  own.seen = time
  all[ARGV[1]] = own
end
if next(all) == nil then redis.call('UNLINK', KEYS[1])
else redis.call('SET', KEYS[1], cjson.encode(all), 'PX', ARGV[4]) end
return 1
"""
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
        asked. One round trip.
        """
        commands = [("TIME",), ("GETRANGE", self._name, 0, _BYTES)]
        try:
            time, raw = await self._link.send(commands, [self._name, self._name])
        except CacheError:
            return ()
        if not isinstance(time, list) or not isinstance(raw, bytes):
            return ()
        now = int(time[0]) * 1000 + int(time[1]) // 1000
        found = [each for each in map(_member, _decoded(raw), [now] * MOST) if each is not None]
        return tuple(sorted(found, key=lambda each: (each.started, each.host, each.pid)))

    async def _announce(self) -> None:
        pause = FIRST
        while True:
            await asyncio.sleep(pause)
            pause = BEAT
            with suppress(CacheError):  # away, full or not allowed: nothing depends on it
                await self._tell(self._said())

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

    async def _tell(self, said: bytes | str) -> None:
        limits = MOST, int(SILENT_FOR * 1000), _BYTES
        command = _ANNOUNCE.call(self._name, self._id, said, *limits)
        await self._link.send([command], [self._name], write=True, replicated=False)


def _decoded(raw: bytes) -> list[Any]:
    """What stands for the processes, whoever wrote it."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return []
    return list(found.values())[:MOST] if isinstance(found, dict) else []


def _member(stored: object, now: int) -> Member | None:
    """A process that was heard of lately; ``None`` for anything else that stands there."""
    try:
        found = msgspec.convert(stored, _Stored)
    except msgspec.ValidationError:
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
