"""What is to be written behind, kept by the cache's servers: durability ``replicated``.

A hash holds the newest intent of each key, in shards; a script takes one only if its version is
higher than what is there, so that processes agree on the order of their writes to a key, whatever
their clocks say. An acknowledged intent is on as many servers as ``coherence.replication`` asks
for (``WAIT``). Any process may flush any intent, and flushing it twice does nothing: so what a dead
process has left is written by whoever looks next.

Rejected: a stream. It would keep every version of a key until all before it are flushed, have no
place to look a key up, and need groups and claims to share out what a version makes harmless.

Servers that evict by ``allkeys-*`` could drop intents: then this refuses to start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from zlib import crc32

import msgspec

from ...clock import Clock
from ...codec import Encoded
from ...config import CacheCoherence, CacheConfig, Redis
from ...errors import BackendUnavailable, CacheError, ConfigError, Undecodable
from ...intents import Intent, Mine, PutAside
from ...settings import copies_of
from ...transport import Command
from ...types import MISSING
from ...versions import RANDOM_BITS, Versions
from .health import look_at
from .link import Link, explained
from .names import Names
from .scripts import Script

__all__ = ["RedisIntents", "redis_intents"]

_SHARDS: Final = 16
_DIGITS: Final = 20
_TRIES: Final = 16
_OWN_FOR: Final = 10.0
"""Seconds for which an intent is left to the process that took it."""

_AT_ONCE: Final = 500

# field, version as digits, intent -> 1 | the version that is there
APPEND: Final = Script(
    r"""
local old = redis.call('HGET', KEYS[1], ARGV[1])
if old and string.sub(old, 1, 20) >= ARGV[2] then return string.sub(old, 1, 20) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ARGV[3])
return 1
"""
)

# field, version as digits -> 1 | 0
FORGET: Final = Script(
    r"""
local old = redis.call('HGET', KEYS[1], ARGV[1])
if not old or string.sub(old, 1, 20) > ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
""",
    "allow-oom",
)


class RedisIntents:
    """The intents of one cache on its servers; ``copies`` must have each, ``wall`` is the clock."""

    def __init__(
        self, link: Link, names: Names, versions: Versions, copies: int, wall: Callable[[], float]
    ) -> None:
        self._link = link
        self._names = names
        self._versions = versions
        self._copies = copies
        self._wall = wall

    async def open(self, mine: Mine) -> list[Intent]:
        """Connect; what is there of ours, whoever took it. Raises :class:`ConfigError` where the
        servers may evict it. Cost: a scan of what is pending.
        """
        await self._link.open()
        self._link.copies = self._copies
        for server in await look_at(self._link):
            if server.max_memory and server.policy.startswith("allkeys"):
                raise ConfigError(
                    f"server {server.name} evicts any key (maxmemory-policy {server.policy}), also "
                    f"what is to be written behind: set noeviction or a volatile policy there, or "
                    f"durability='journal'",
                    path="coherence.mode.durability",
                )
        return await self._all(mine)

    async def adopt(self, mine: Mine) -> list[Intent]:
        """What others took so long ago that they may have died since."""
        old = int((self._wall() - _OWN_FOR) * 1_000_000) << RANDOM_BITS
        return [intent for intent in await self._all(mine) if intent.version < old]

    async def append(self, intents: Sequence[Intent]) -> list[Intent]:
        """Take intents, each with a version above that of the one before it. One round trip a
        server, one more for replicas, and one for each that another process was ahead of.
        """
        taken: dict[int, Intent] = {}
        waiting = dict(enumerate(intents))
        for _ in range(_TRIES):
            keys = [self._hash(intent) for intent in waiting.values()]
            commands = [
                APPEND.call(key, _field(intent), _digits(intent.version), _packed(intent))
                for key, intent in zip(keys, waiting.values(), strict=True)
            ]
            replies = await self._link.send(commands, keys, write=True)
            for (at, intent), reply in zip(list(waiting.items()), replies, strict=True):
                if isinstance(reply, CacheError):
                    raise explained(reply)
                if reply == 1:
                    taken[at] = waiting.pop(at)
                else:
                    self._versions.saw(int(reply))
                    newer = max(self._versions.draw(), int(reply) + 1)
                    waiting[at] = msgspec.structs.replace(intent, version=newer)
            if not waiting:
                return [taken[at] for at in range(len(intents))]
        raise BackendUnavailable(f"others wrote {len(waiting)} keys {_TRIES} times in between")

    async def flushed(self, intents: Sequence[Intent]) -> None:
        """Forget intents, and older ones of their keys. One round trip a server.

        No replica is waited for: what one of them still has would be written again, to no effect.
        """
        keys = [self._hash(intent) for intent in intents]
        commands = [
            FORGET.call(key, _field(intent), _digits(intent.version))
            for key, intent in zip(keys, intents, strict=True)
        ]
        await self._sent(commands, keys, write=True, replicated=False)

    async def put_aside(self, intent: Intent, refused: PutAside) -> None:
        """Keep what was refused, with its value. One round trip."""
        name = self._names.aside
        told = msgspec.msgpack.encode((refused, _packed(intent)))
        await self._sent([("HSET", name, _field(intent), told)], [name], write=True)

    async def find(self, region: str, keys: Sequence[str]) -> list[Intent]:
        """What is pending for ``keys``, whoever took it. One round trip a server."""
        wanted = [Intent(region, key, MISSING) for key in keys]
        names = [self._hash(intent) for intent in wanted]
        commands: list[Command] = [
            ("HGET", name, _field(intent)) for name, intent in zip(names, wanted, strict=True)
        ]
        found = await self._sent(commands, names)
        return [_unpacked(data[_DIGITS:]) for data in found if data is not None]

    async def aside(self) -> list[PutAside]:
        """What was put aside. One round trip."""
        name = self._names.aside
        [found] = await self._sent([("HVALS", name)], [name])
        return [msgspec.msgpack.decode(data, type=tuple[PutAside, bytes])[0] for data in found]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._link.aclose()

    def forked(self) -> None:
        """See :meth:`Link.forked`."""
        self._link.forked()

    # -- inside

    def _hash(self, intent: Intent) -> bytes:
        return self._names.pending(crc32(_field(intent)) % _SHARDS)

    async def _all(self, mine: Mine) -> list[Intent]:
        found: list[Intent] = []
        for shard in range(_SHARDS):
            name, cursor = self._names.pending(shard), b"0"
            while True:
                command = ("HSCAN", name, cursor, "COUNT", _AT_ONCE)
                [(cursor, pairs)] = await self._sent([command], [name])
                intents = [_unpacked(data[_DIGITS:]) for data in pairs[1::2]]
                found += [intent for intent in intents if mine(intent.region)]
                if cursor == b"0":
                    break
        return found

    async def _sent(
        self,
        commands: Sequence[Command],
        keys: Sequence[bytes],
        *,
        write: bool = False,
        replicated: bool = True,
    ) -> list[Any]:
        if not commands:
            return []
        replies = await self._link.send(commands, keys, write=write, replicated=replicated)
        for reply in replies:
            if isinstance(reply, CacheError):
                raise explained(reply)
        return list(replies)


def redis_intents(config: CacheConfig, clock: Clock) -> RedisIntents:
    """The intents of the cache of ``config``, which is on Redis, over connections of their own."""
    assert isinstance(config.backend, Redis), "the configuration was checked"
    pool = msgspec.structs.replace(config.backend.pool, min_connections=0, max_connections=2)
    names, server = Names(config.name), msgspec.structs.replace(config.backend, pool=pool)
    link = Link(server, config.partitioning, clock, names)
    copies = copies_of(config.coherence or CacheCoherence())
    return RedisIntents(link, names, Versions(clock), copies, clock.wall)


def _field(intent: Intent) -> bytes:
    return f"{intent.region}:{intent.key}".encode()


def _digits(version: int) -> str:
    return f"{version:0{_DIGITS}}"


def _packed(intent: Intent) -> bytes:
    value, held = intent.value, None
    if isinstance(value, Encoded):
        held = (value.payload, int(value.codec), value.flags)
    return msgspec.msgpack.encode(
        (intent.region, intent.key, intent.version, held, intent.deadline, intent.tags)
    )


_Packed = tuple[str, str, int, tuple[bytes, int, int] | None, float | None, tuple[str, ...]]


def _unpacked(data: bytes) -> Intent:
    try:
        region, key, version, held, deadline, tags = msgspec.msgpack.decode(data, type=_Packed)
    except msgspec.DecodeError as error:
        raise Undecodable("no intent: another program wrote it") from error
    value = MISSING if held is None else Encoded(*held)
    return Intent(region, key, value, version, deadline, tags)
