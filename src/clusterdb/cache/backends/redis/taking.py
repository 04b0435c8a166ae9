"""How keys of a ring are taken over by another server, a few at once, while they are used.

Each goes in five steps, and which server decides on it changes in one of them, the third:

1. *Look* at the old server: the key as ``DUMP`` gives it, a digest of its contents, the time left.
2. *Copy* to the new one, under another name, which no client asks for; what arrived is compared.
3. *Mark* at the old one: if the key is still what it was, it goes, and a mark says that it was
   taken over. If it is not, the copy is thrown away, and the key is taken another time.
4. *Place* at the new one: the copy gets the key's name, unless a client that saw the mark was
   faster.
5. *Unmark* at the old one.

Every step is refused unless the server's placement has the token of who moves, so nothing comes
late from one who was replaced. What is left half done is either a copy without a mark, which nobody
uses, or a mark with its copy, which clients use, and whoever goes on finds.

**Claims** say until when they are held by the clock of their server, so they stay until they end;
one that has ended is put back to what it kept. What ends within `MARGIN` is left to end, and what
moves may end that much sooner, but not later. Streams are channels, and not ours to place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from ...errors import BackendUnavailable, CacheError, NotSupported, ServerError
from ...partition.placement import Placed
from ...transport import Command
from ...transport.placed import PlacedRing
from .link import Link, explained
from .names import Names
from .scripts import Script, resent

__all__ = ["LOST", "MARGIN", "Taken", "Taking"]

LOST: Final = "LOST"
MARGIN: Final = 250
"""Milliseconds."""

_FENCE: Final = r"""
local version, stage, token = string.match(redis.call('GET', KEYS[2]) or '', '^(%S+) (%a+) (%S+) ')
if version ~= ARGV[1] or stage ~= 'moving' or token ~= ARGV[2] then
  return redis.error_reply('LOST another process moves the keys, or none does')
end
"""

# The same for the same contents, in whatever form a server keeps them.
_DIGEST: Final = r"""
local function contents(key, kind)
  if kind == 'string' then return {redis.call('GET', key)} end
  if kind == 'zset' then return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  if kind == 'list' then return redis.call('LRANGE', key, 0, -1) end
  local found = redis.call(kind == 'hash' and 'HGETALL' or 'SMEMBERS', key)
  if kind == 'hash' then
    local pairs = {}
    for at = 1, #found, 2 do
      pairs[#pairs + 1] = #found[at] .. ':' .. found[at] .. found[at + 1]
    end
    found = pairs
  end
  table.sort(found)
  return found
end
local function digest(key, kind)
  local parts = {kind}
  for _, part in ipairs(contents(key, kind)) do parts[#parts + 1] = #part .. ':' .. part end
  return redis.sha1hex(table.concat(parts, ' '))
end
"""
_KINDS: Final = "string hash set zset list"

# version, token, margin, whether it has to be an entry
#   -> {'copy', dump, left, digest, idle} | {'gone'} | {'busy'} | {'stays'}
_LOOK: Final = Script(
    _FENCE
    + _DIGEST
    + r"""
local key = KEYS[1]
local idle = redis.pcall('OBJECT', 'IDLETIME', key)
local kind = redis.call('TYPE', key).ok
if kind == 'none' then return {'gone'} end
if not string.find('KINDS', kind, 1, true) then return {'stays'} end
local head = kind == 'string' and redis.call('GETRANGE', key, 0, 32) or ''
local claim = #head == 33 and string.byte(head, 1) == 0
if ARGV[4] == '1' and not claim and string.sub(head, 1, 2) ~= '\193\219' then return {'stays'} end
if claim then
  local held, kept = struct.unpack('>dd', head, 18)
  local time = now()
  if held > time then return {'busy'} end
  local old = redis.call('GETRANGE', key, 33, -1)
  if kept <= time or #old < 35 then
    redis.call('UNLINK', key)
    return {'gone'}
  end
  redis.call('SET', key, old, 'PXAT', whole(kept))
end
local left = redis.call('PTTL', key)
if left >= 0 and left <= 2 * ARGV[3] then return {'busy'} end
local known = type(idle) == 'number' and idle or 0
return {'copy', redis.call('DUMP', key), left, digest(key, kind), known}
""".replace("KINDS", _KINDS),
    "allow-oom",
)

# version, token, dump, milliseconds, idle -> digest
_COPY: Final = Script(
    _FENCE
    + _DIGEST
    + r"""
redis.call('RESTORE', KEYS[1], ARGV[4], ARGV[3], 'REPLACE', 'IDLETIME', ARGV[5])
return digest(KEYS[1], redis.call('TYPE', KEYS[1]).ok)
"""
)

# version, token, digest, left, margin -> 1 | 0
_MARK: Final = Script(
    _FENCE
    + _DIGEST
    + r"""
local key, was, left = KEYS[1], tonumber(ARGV[4]), redis.call('PTTL', KEYS[1])
if (was < 0) ~= (left < 0) or left == -2 then return 0 end
if was >= 0 and (left > was or left < was - ARGV[5]) then return 0 end
if digest(key, redis.call('TYPE', key).ok) ~= ARGV[3] then return 0 end
redis.call('UNLINK', key)
redis.call('SET', KEYS[3], '1')
return 1
""",
    "allow-oom",
)

# version, token -> 1 | 0
_PLACE: Final = Script(
    _FENCE
    + r"""
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
redis.call('RENAME', KEYS[3], KEYS[1])
return 1
""",
    "allow-oom",
)

# version, token -> 1 | 0
_DROP: Final = Script(_FENCE + "return redis.call('UNLINK', KEYS[1])", "allow-oom")


class Taken(NamedTuple):
    """What became of keys: so many ``moved``, so many have to be tried again, as they are used or
    held, and so many bytes were copied.
    """

    moved: int = 0
    again: int = 0
    size: int = 0


class _Copy(NamedTuple):
    """A key as its old server had it."""

    dump: bytes
    left: int
    digest: bytes
    idle: int


class Taking:
    """Takes keys over on ``ring``, as who has the token of ``placed``."""

    def __init__(self, link: Link, ring: PlacedRing, names: Names, placed: Placed) -> None:
        self._link = link
        self._ring = ring
        self._names = names
        self.placed = placed
        self._fence = placed.placement.version, placed.placement.token

    async def take(self, source: str, names: Sequence[bytes]) -> Taken:
        """Move keys of ``source`` that get another server. Five round trips. Raises what a server
        said, or that it is away; then some may be half done.
        """
        words = [(MARGIN, int(self._names.is_entry(name))) for name in names]
        looks = await self._run(_LOOK, source, names, words)
        copies = {
            name: _Copy(*look[1:])
            for name, look in zip(names, looks, strict=True)
            if look[0] == b"copy"
        }
        busy = sum([look[0] == b"busy" for look in looks])
        await self._on_targets(copies, self._copy, copies)
        marked = await self._run(
            _MARK,
            source,
            list(copies),
            [(copy.digest, copy.left, MARGIN) for copy in copies.values()],
            self._names.taken,
        )
        taken = [name for name, done in zip(copies, marked, strict=True) if done]
        lost = [name for name, done in zip(copies, marked, strict=True) if not done]
        await self._on_targets(lost, self._throw_away, copies)
        await self.finish(source, taken)
        size = sum([len(copy.dump) for copy in copies.values()])
        return Taken(moved=len(taken), again=busy + len(lost), size=size)

    async def finish(self, source: str, names: Sequence[bytes]) -> None:
        """Place the copies of keys that ``source`` has marked, and take the marks away."""
        await self._on_targets(names, self._place, {})
        await self._run(_DROP, source, [self._names.taken(name) for name in names])

    async def drop(self, server: str, names: Sequence[bytes]) -> None:
        """Remove names of the move itself from a server."""
        await self._run(_DROP, server, names)

    async def _on_targets(
        self, names: Iterable[bytes], step: Any, copies: dict[bytes, _Copy]
    ) -> None:
        """Do a step at the servers that keys go to, at all of them at once."""
        targets: dict[str, list[bytes]] = {}
        for name in names:
            seat = self.placed.seat(name)
            targets.setdefault(seat.then or seat.first, []).append(name)
        steps = [step(target, group, copies) for target, group in targets.items()]
        for found in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found

    async def _copy(self, target: str, names: list[bytes], copies: dict[bytes, _Copy]) -> None:
        wanted = [copies[name] for name in names]
        words = [
            (copy.dump, copy.left - MARGIN if copy.left >= 0 else 0, copy.idle) for copy in wanted
        ]
        digests = await self._run(
            _COPY, target, [self._names.taking(name) for name in names], words
        )
        for name, copy, digest in zip(names, wanted, digests, strict=True):
            if digest != copy.digest:
                raise NotSupported(
                    f"{target} read {name!r} otherwise than {self.placed.seat(name).first} has it: "
                    f"let all servers of the ring have the same version"
                )

    async def _throw_away(self, target: str, names: list[bytes], _: dict[bytes, _Copy]) -> None:
        await self._run(_DROP, target, [self._names.taking(name) for name in names])

    async def _place(self, target: str, names: list[bytes], _: dict[bytes, _Copy]) -> None:
        await self._run(_PLACE, target, names, (), self._names.taking)

    async def _run(
        self,
        script: Script,
        server: str,
        names: Sequence[bytes],
        words: Sequence[tuple[Any, ...]] = (),
        other: Any = None,
    ) -> list[Any]:
        """The replies of a server to a script for each key, with its ``other`` name. Raises the
        first error.
        """
        if not names:
            return []
        commands: list[Command] = []
        for name, mine in zip(names, words or [()] * len(names), strict=True):
            keys = [name, self._names.placement] + ([] if other is None else [other(name)])
            commands.append(resent(script.call_many(keys, [*self._fence, *mine])))
        replies = await self._ring.ask(
            server, commands, self._link.deadline(), write=True, bulk=True
        )
        for reply in replies:
            if isinstance(reply, ServerError) and reply.code == LOST:
                raise BackendUnavailable(f"{server}: {reply}")
            if isinstance(reply, CacheError):
                raise explained(reply)
        return replies
