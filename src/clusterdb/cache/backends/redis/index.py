"""The index of a limited region: which entries it has, in the order in which they are to go.

Three keys a shard, in one slot: ``order`` (a sorted set; the lowest score goes first), ``weight``
(a hash of bytes, with the sum under the empty field) and ``ends`` (a sorted set of expiries, for
those that have one, by the server's clock). A score is the time of the first write (FIFO) or of
the last use (LRU), in microseconds since 1970, or a number of uses (LFU, where a newcomer begins
at the lowest count of its shard, so that old fame wears off: "LFU with dynamic aging", Arlitt et
al. 2000).

An index may be wrong about an entry for a while, never about itself: each script keeps its three
keys in step, and begins anew where a server has evicted one of them. They are ordinary keys, spread
over the slots of a Cluster like others, and move with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias
from zlib import crc32

from ...errors import CacheError, Degraded
from ...policy import kept_order
from ...transport import Command, Reply
from .link import Link, explained
from .names import Names
from .scripts import Script

__all__ = ["Candidate", "Index", "Line", "Totals"]

Line: TypeAlias = tuple[str, int, int, str | int, str | int]
"""What happened to a key: ``put``, ``new`` (it was not there before), ``kept`` (if it was there, it
ends when it ended), ``use`` or ``gone``; the score's time, the number of uses, the weight (empty:
as it was), and the milliseconds until it ends (empty: as they were; ``-``: never)."""

_BATCH: Final = 500

_KEEP: Final = r"""
local order, weights, ends = KEYS[1], KEYS[2], KEYS[3]
local time, total = now(), 0
if redis.call('EXISTS', order, weights) == 1 then redis.call('UNLINK', order, weights, ends) end
local function drop(name)
  redis.call('ZREM', order, name)
  redis.call('ZREM', ends, name)
  total = total - (redis.call('HGET', weights, name) or 0)
  redis.call('HDEL', weights, name)
end
local function finish()
  if total ~= 0 then redis.call('HINCRBY', weights, '', whole(total)) end
end
"""

# policy; for each: key, kind, time, uses, weight, milliseconds -> 1
_NOTE: Final = Script(
    _KEEP
    + r"""
local policy = ARGV[1]
for at = 2, #ARGV, 6 do
  local name, kind, used, count, weight, left = unpack(ARGV, at, at + 5)
  local old = redis.call('HGET', weights, name)
  if old then
    local ended = redis.call('ZSCORE', ends, name)
    if kind == 'new' or kind == 'gone' or ended and tonumber(ended) <= time then
      drop(name)
      old = false
    end
  end
  if kind ~= 'gone' and (old or weight ~= '') then
    if weight ~= '' then
      redis.call('HSET', weights, name, weight)
      total = total + weight - (old or 0)
    end
    if policy == 'lru' then
      redis.call('ZADD', order, 'GT', used, name)
    elseif policy == 'fifo' then
      if weight ~= '' then redis.call('ZADD', order, 'LT', used, name) end
    elseif old then
      redis.call('ZINCRBY', order, count, name)
    else
      local least = redis.call('ZRANGE', order, 0, 0, 'WITHSCORES')[2] or 0
      local score = math.floor(least) + count + used / 1e17
      redis.call('ZADD', order, string.format('%.17g', score), name)
    end
    if kind == 'kept' and old then left = '' end
    if left == '-' then
      redis.call('ZREM', ends, name)
    elseif left ~= '' then
      redis.call('ZADD', ends, whole(time + left), name)
    end
  end
end
finish()
return 1
""",
    "allow-oom",
)

# most that end at once -> entries, bytes, 1 if there are more that have ended
_TOTALS: Final = Script(
    _KEEP
    + r"""
local ended = redis.call('ZRANGEBYSCORE', ends, '-inf', whole(time), 'LIMIT', 0, ARGV[1])
for _, name in ipairs(ended) do drop(name) end
finish()
local more = #ended == tonumber(ARGV[1]) and 1 or 0
return {redis.call('ZCARD', order), tonumber(redis.call('HGET', weights, '') or 0), more}
""",
    "allow-oom",
)

# first rank, number -> key, score, weight, ...
_LOWEST: Final = Script(
    r"""
local found = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1, 'WITHSCORES')
local lines = {}
for at = 1, #found, 2 do
  lines[#lines + 1] = found[at]
  lines[#lines + 1] = found[at + 1]
  lines[#lines + 1] = redis.call('HGET', KEYS[2], found[at]) or '0'
end
return lines
""",
    "no-writes",
)

# for each: key, score -> 1 if it was there and still has it
_FORGET: Final = Script(
    _KEEP
    + r"""
local done = {}
for at = 1, #ARGV, 2 do
  local same = redis.call('ZSCORE', order, ARGV[at]) == ARGV[at + 1]
  if same then drop(ARGV[at]) end
  done[#done + 1] = same and 1 or 0
end
finish()
return done
""",
    "allow-oom",
)


class Totals(NamedTuple):
    """What a region has: entries and bytes. ``more``: some of them have ended already."""

    items: int
    weight: int
    more: bool


class Candidate(NamedTuple):
    """An entry of the index. ``score`` is as the server writes it."""

    key: bytes
    score: bytes
    weight: int


class Index:
    """The indexes of one backend's regions. A command a shard and batch, all at once."""

    def __init__(self, link: Link, names: Names, shards: int) -> None:
        self._link = link
        self._names = names
        self._shards = range(shards)

    def shard(self, key: bytes) -> int:
        """Where a key is indexed."""
        return crc32(key) % len(self._shards)

    def _keys(self, region: str, shard: int) -> list[bytes]:
        return self._names.index(region, shard)

    async def note(self, region: str, policy: str, lines: Mapping[str, Line]) -> set[str]:
        """Write down what happened to keys; those of them that no server took. One round trip."""
        parts: list[tuple[int, list[str]]] = []
        sharded: dict[int, list[str]] = {}
        for key in lines:
            sharded.setdefault(self.shard(key.encode()), []).append(key)
        for shard, keys in sharded.items():
            parts += [(shard, keys[at : at + _BATCH]) for at in range(0, len(keys), _BATCH)]
        asked: list[tuple[int, list[str | bytes | int]]] = []
        for shard, keys in parts:
            words: list[str | bytes | int] = [kept_order(policy)]
            for key in keys:
                words += (key, *lines[key])
            asked.append((shard, words))
        replies = await self._run(_NOTE, region, asked)
        return {
            key
            for (_, keys), reply in zip(parts, replies, strict=True)
            if isinstance(reply, CacheError)
            for key in keys
        }

    async def totals(self, region: str) -> Totals:
        """What the region has now; what has ended is forgotten first. One round trip. Shards whose
        server is away count nothing; raises what happened where all are.
        """
        items, weight, more, failed = 0, 0, False, None
        replies = await self._run(_TOTALS, region, [(shard, [_BATCH]) for shard in self._shards])
        for reply in replies:
            if isinstance(reply, CacheError):
                failed = reply
                continue
            items, weight, more = items + reply[0], weight + reply[1], more or reply[2] == 1
        if failed is not None and all(isinstance(reply, CacheError) for reply in replies):
            raise explained(failed)
        return Totals(items, weight, more)

    async def lowest(self, region: str, first: int, number: int) -> list[list[Candidate]]:
        """Of each shard, the entries from rank ``first`` on, in order. One round trip."""
        asked: list[tuple[int, list[str | bytes | int]]] = [
            (shard, [first, number]) for shard in self._shards
        ]
        replies = await self._run(_LOWEST, region, asked, write=False)
        return [
            [
                Candidate(key, score, int(weight))
                for key, score, weight in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
            ]
            for reply in replies
            if not isinstance(reply, CacheError)
        ]

    async def forget(self, region: str, found: Iterable[Candidate]) -> list[Candidate]:
        """Take entries out that nothing happened to since; which that were. One round trip."""
        sharded: dict[int, list[Candidate]] = {}
        for each in found:
            sharded.setdefault(self.shard(each.key), []).append(each)
        parts = [
            (shard, each[at : at + _BATCH])
            for shard, each in sharded.items()
            for at in range(0, len(each), _BATCH)
        ]
        asked: list[tuple[int, list[str | bytes | int]]] = [
            (shard, [word for each in part for word in (each.key, each.score)])
            for shard, part in parts
        ]
        forgotten: list[Candidate] = []
        for (_, part), reply in zip(parts, await self._run(_FORGET, region, asked), strict=True):
            if not isinstance(reply, CacheError):
                forgotten += [each for each, done in zip(part, reply, strict=True) if done == 1]
        return forgotten

    async def unknown(self, region: str, keys: Sequence[bytes]) -> list[bytes]:
        """Those of ``keys`` that are not indexed. One round trip."""
        where = [self._keys(region, self.shard(key))[1] for key in keys]
        commands: list[Command] = [
            ("HEXISTS", name, key) for name, key in zip(where, keys, strict=True)
        ]
        replies = await self._link.send(commands, where)
        return [key for key, reply in zip(keys, replies, strict=True) if reply == 0]

    async def drop(self, region: str) -> None:
        """Forget all that a region has. One round trip."""
        keys = [key for shard in self._shards for key in self._keys(region, shard)]
        await self._link.send([("UNLINK", key) for key in keys], keys, write=True)

    async def _run(
        self,
        script: Script,
        region: str,
        asked: Sequence[tuple[int, Sequence[str | bytes | int]]],
        *,
        write: bool = True,
    ) -> list[Reply]:
        keys = [self._keys(region, shard) for shard, _ in asked]
        commands = [
            script.call_many(each, list(words))
            for each, (_, words) in zip(keys, asked, strict=True)
        ]
        names = [each[0] for each in keys]
        replies = await self._link.send(commands, names, write=write, replicated=False)
        return [reply.reply if isinstance(reply, Degraded) else reply for reply in replies]
