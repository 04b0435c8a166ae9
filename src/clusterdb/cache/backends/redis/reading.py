"""Reads: the value and the time it has left, and whether its tags still live.

Two commands a key, ``GET`` and ``PTTL``, back to back in one round trip. Where a region has a
grace, or a caller takes what is stale, one script reads both at one moment: between two commands
an expired value and the time of its successor could be taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ...codec import RegionCodec, Sealed
from ...errors import CacheError, ServerError, Undecodable
from ...settings import RegionSettings
from ...transport import Command, Reply
from ...types import Record
from .link import BULK_BYTES, Link, explained
from .names import Names
from .nonces import Nonces
from .replicas import Replicas
from .scripts import READ
from .stored import grace_ms, is_claim, is_envelope, sealed_record, shown_tags, undecodable_record

__all__ = ["Reading"]

_MOST_LARGE: Final = 4096


class Reading:
    """The reads of one backend. ``settings`` are those of its regions, as they are now."""

    def __init__(
        self, link: Link, names: Names, nonces: Nonces, settings: Mapping[str, RegionSettings]
    ) -> None:
        self._link = link
        self._names = names
        self._nonces = nonces
        self._settings = settings
        self._large: dict[bytes, None] = {}

    async def read(
        self, region: str, keys: Sequence[str], stale: bool, replicas: Replicas | None = None
    ) -> list[Record | None]:
        """See :meth:`Backend.read`. Cost: one round trip a server; one more where there are tags.
        ``replicas`` may answer instead of the primaries.

        A key whose value was large the last time is asked for on the connection of large values.
        """
        settings, link = self._settings[region], self._link
        codec = settings.codec
        assert codec is not None, "a region of an encoding backend has a codec"
        deadline = link.now() + link.timeout
        if len(keys) == 1 and not stale and not settings.grace and replicas is None:
            name = self._names.entry(region, keys[0])
            bulk = bool(self._large) and name in self._large
            value, left = await link.look(name, deadline, bulk=bulk)
            record, sealed = _opened(codec, keys[0], value, left)
            if sealed is None:
                return [record]
            if len(value) >= BULK_BYTES or bulk:
                self._sized(name, len(value))
            if not sealed.tags:
                return [record]
            return await self._judged(region, [record], [sealed], deadline)
        atomic = stale or settings.grace > 0
        return await self._read_many(region, keys, codec, atomic, stale, deadline, replicas)

    async def _read_many(
        self,
        region: str,
        keys: Sequence[str],
        codec: RegionCodec,
        atomic: bool,
        stale: bool,
        deadline: float,
        replicas: Replicas | None,
    ) -> list[Record | None]:
        names = [self._names.entry(region, key) for key in keys]
        bulk = bool(self._large) and any(name in self._large for name in names)
        records: list[Record | None] = []
        opened: list[Sealed | None] = []
        if atomic:
            flag = "1" if stale else "0"
            commands: list[Command] = [READ.call(name, flag) for name in names]
            replies, ages = await self._asked(commands, names, bulk, deadline, replicas)
            pairs = [_parts(reply) for reply in replies]
        else:
            commands = [(verb, name) for name in names for verb in ("GET", "PTTL")]
            twice = [name for name in names for _ in range(2)]
            replies, ages = await self._asked(commands, twice, bulk, deadline, replicas)
            pairs, ages = list(zip(replies[::2], replies[1::2], strict=True)), ages[::2]
        for key, name, (value, left) in zip(keys, names, pairs, strict=True):
            if atomic:
                record, sealed = _exactly(codec, key, value, left)
            else:
                record, sealed = _opened(codec, key, value, left)
            if type(value) is bytes and (len(value) >= BULK_BYTES or bulk):
                self._sized(name, len(value))
            records.append(record)
            opened.append(sealed)
        if any(ages):
            records = list(map(_aged, records, ages))
        return await self._judged(region, records, opened, deadline)

    async def _asked(
        self,
        commands: Sequence[Command],
        names: Sequence[bytes],
        bulk: bool,
        deadline: float,
        replicas: Replicas | None,
    ) -> tuple[list[Reply], Sequence[float]]:
        """The replies, and how old at most each is: nothing, where a primary answered."""
        if replicas is not None and not bulk:
            return await replicas.ask(commands, names, deadline)
        return await self._link.send(commands, names, bulk=bulk, deadline=deadline), ()

    async def _judged(
        self,
        region: str,
        records: list[Record | None],
        opened: Sequence[Sealed | None],
        deadline: float,
    ) -> list[Record | None]:
        """The records, without those whose tags have ended."""
        tagged = {
            at: sealed.tags
            for at, sealed in enumerate(opened)
            if sealed is not None and sealed.tags
        }
        if tagged:
            alive = await self._nonces.alive(region, tagged.values(), deadline)
            for at, lives in zip(tagged, alive, strict=True):
                if not lives:
                    records[at] = None
        return records

    def _sized(self, name: bytes, size: int) -> None:
        """Remember a key whose value is large, and forget one whose value no longer is."""
        if size < BULK_BYTES:
            self._large.pop(name, None)
            return
        self._large[name] = None
        if len(self._large) > _MOST_LARGE:
            del self._large[next(iter(self._large))]


def _aged(record: Record | None, age: float) -> Record | None:
    return None if record is None else replace(record, age_bound=age)


def _opened(
    codec: RegionCodec, key: str, value: Reply, left: Reply
) -> tuple[Record | None, Sealed | None]:
    """What ``GET`` and ``PTTL`` mean."""
    if value is None or left == -2:
        return None, None
    if type(value) is not bytes or type(left) is not int:
        return _unreadable(key, value if type(value) is not bytes else left)
    if left < 0:
        left = None
    try:
        sealed = codec.unseal(key, value)
    except Undecodable as error:
        return _not_sealed(key, value, left, error), None
    tags: tuple[str, ...] = ()
    expires_in: float | None = None
    if left is not None:
        if sealed.expires_at is not None:
            left -= grace_ms(value)
            if left <= 0:
                return None, None
        expires_in = left / 1000
    if sealed.tags:
        tags = shown_tags(sealed.tags)
    return Record(key, sealed.encoded, sealed.version, expires_in, tags, "redis"), sealed


def _not_sealed(key: str, value: bytes, left: int | None, error: Undecodable) -> Record | None:
    """A claim is nothing; what can't be read is an entry as long as it would be one."""
    if is_claim(value):
        return None
    if left is not None and is_envelope(value):
        left -= grace_ms(value)
        if left <= 0:
            return None
    return undecodable_record(key, value, left, error)


def _parts(reply: Reply) -> tuple[Reply, Reply]:
    """Value and time left of what the script said; a stale one has none left."""
    if type(reply) is not list:
        return reply, None
    value, left, *stale = reply
    return value, left if stale or left >= 0 else None


def _exactly(
    codec: RegionCodec, key: str, value: Reply, left: int | None
) -> tuple[Record | None, Sealed | None]:
    """What the script means."""
    if value is None:
        return None, None
    if type(value) is not bytes:
        return _unreadable(key, value)
    return sealed_record(codec, key, value, left)


def _unreadable(key: str, error: Reply) -> tuple[Record | None, Sealed | None]:
    """A key of another type reads as what can't be decoded; other errors are raised."""
    if isinstance(error, ServerError) and error.code == "WRONGTYPE":
        return undecodable_record(key, b"", None, Undecodable("foreign: it is no string")), None
    if isinstance(error, CacheError):
        raise explained(error)
    raise Undecodable(f"Redis answered {type(error).__name__} instead of a value")
