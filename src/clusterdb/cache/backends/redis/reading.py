"""Reads: the value and the time it has left, and whether its tags still live.

What a server gives is live, as it removes what has expired; so a *brief* read is one ``GET``. One
that also wants the time that is left is ``GET`` and ``PTTL``, back to back in one round trip. Where
a region has a grace, or a caller takes what is stale, one script reads both at one moment: between
two commands an expired value and the time of its successor could be taken for one. An entry that
has a grace although its region has none any more is read again so.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from ...codec import RegionCodec, Sealed
from ...errors import CacheError, ServerError, Undecodable
from ...settings import RegionSettings
from ...transport import Command, Reply
from ...types import Record
from .held import HeldClaims
from .link import BULK_BYTES, Link, explained
from .names import Names
from .nonces import Nonces
from .replicas import Replicas
from .scripts import READ
from .stored import (
    grace_ms,
    has_grace,
    is_claim,
    is_envelope,
    sealed_record,
    shown_tags,
    undecodable_record,
)

__all__ = ["Reading"]

_MOST_LARGE: Final = 4096
_UNASKED: Final = -1
"""The time left in a brief read: none that matters, as to an entry without expiry."""


class Reading:
    """The reads of one backend. ``settings`` are those of its regions, as they are now."""

    def __init__(
        self,
        link: Link,
        names: Names,
        nonces: Nonces,
        claims: HeldClaims,
        settings: Mapping[str, RegionSettings],
    ) -> None:
        self._link = link
        self._claims = claims
        self._names = names
        self._nonces = nonces
        self._settings = settings
        self._large: dict[bytes, None] = {}

    def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        brief: bool = False,
        replicas: Replicas | None = None,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, list[Record | None]]:
        """See :meth:`Backend.read`. Cost: one round trip a server; one more where there are tags.
        ``replicas`` may answer instead of the primaries.

        A key whose value was large the last time is asked for on the connection of large values.
        """
        if deadline is None:
            deadline = self._link.deadline()
        settings = self._settings[region]
        codec = settings.codec
        assert codec is not None, "a region of an encoding backend has a codec"
        if stale or settings.grace > 0:
            return self._read_exactly(region, keys, codec, stale, deadline, replicas)
        if len(keys) == 1 and replicas is None:
            return self._read_one(region, keys[0], codec, brief, deadline)
        return self._read_many(region, keys, codec, brief, deadline, replicas)

    async def _read_one(
        self, region: str, key: str, codec: RegionCodec, brief: bool, deadline: float
    ) -> list[Record | None]:
        """The straight way of most reads."""
        name, link = self._names.entry(region, key), self._link
        bulk = bool(self._large) and name in self._large
        left: Reply = _UNASKED
        if brief:
            value = await link.get(name, deadline, bulk)
        else:
            value, left = await link.look(name, deadline, bulk=bulk)
        if self._claims:
            self._claims.witness(region, key, value, deadline - link.timeout)
        if value is None:
            return [None]
        if type(value) is bytes:
            if len(value) >= BULK_BYTES or bulk:
                self._sized(name, len(value))
            if brief and has_grace(value):
                return await self._read_exactly(region, [key], codec, False, deadline)
        record, sealed = _opened(codec, key, value, left)
        if sealed is None or not sealed.tags:
            return [record]
        [lives] = await self._nonces.alive(region, [sealed.tags], deadline)
        return [record if lives else None]

    async def _read_many(
        self,
        region: str,
        keys: Sequence[str],
        codec: RegionCodec,
        brief: bool,
        deadline: float,
        replicas: Replicas | None = None,
    ) -> list[Record | None]:
        names = [self._names.entry(region, key) for key in keys]
        verbs = ("GET",) if brief else ("GET", "PTTL")
        commands: list[Command] = [(verb, name) for name in names for verb in verbs]
        about = names if brief else [name for name in names for _ in verbs]
        bulk = self._any_large(names)
        replies, ages = await self._asked(commands, about, bulk, deadline, replicas)
        values = replies[:: len(verbs)]
        times = [_UNASKED] * len(keys) if brief else replies[1::2]
        self._all_sized(names, values, bulk)
        self._witness(region, keys, values, deadline)
        opened = [
            _opened(codec, key, value, left)
            for key, value, left in zip(keys, values, times, strict=True)
        ]
        records = await self._judged(region, opened, deadline)
        if ages:
            records = list(map(_aged, records, ages[:: len(verbs)]))
        graced = [
            at for at, value in enumerate(values) if type(value) is bytes and has_grace(value)
        ]
        if brief and graced:
            exact = [keys[at] for at in graced]
            again = await self._read_exactly(region, exact, codec, False, deadline)
            for at, record in zip(graced, again, strict=True):
                records[at] = record
        return records

    async def _read_exactly(
        self,
        region: str,
        keys: Sequence[str],
        codec: RegionCodec,
        stale: bool,
        deadline: float,
        replicas: Replicas | None = None,
    ) -> list[Record | None]:
        """Value and time of one moment each."""
        names = [self._names.entry(region, key) for key in keys]
        bulk = self._any_large(names)
        flag = "1" if stale else "0"
        commands: list[Command] = [READ.call(name, flag) for name in names]
        replies, ages = await self._asked(commands, names, bulk, deadline, replicas)
        pairs = [_parts(reply) for reply in replies]
        self._all_sized(names, [value for value, _ in pairs], bulk)
        if not stale:
            self._witness(region, keys, [value for value, _ in pairs], deadline)
        opened = [
            _exactly(codec, key, value, left)
            for key, (value, left) in zip(keys, pairs, strict=True)
        ]
        records = await self._judged(region, opened, deadline)
        return list(map(_aged, records, ages)) if ages else records

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
        opened: Sequence[tuple[Record | None, Sealed | None]],
        deadline: float,
    ) -> list[Record | None]:
        """The records, without those whose tags have ended."""
        records = [record for record, _ in opened]
        tagged = {
            at: sealed.tags
            for at, (_, sealed) in enumerate(opened)
            if sealed is not None and sealed.tags
        }
        if tagged:
            alive = await self._nonces.alive(region, tagged.values(), deadline)
            for at, lives in zip(tagged, alive, strict=True):
                if not lives:
                    records[at] = None
        return records

    def is_large(self, name: bytes) -> bool:
        """Whether the value of a key was large the last time."""
        return bool(self._large) and name in self._large

    def opened(
        self, region: str, key: str, reply: Reply, *, exactly: bool, stale: bool, sent_at: float
    ) -> tuple[Record | None, Sealed | None]:
        """What a server's reply to ``GET`` and ``PTTL`` means, or ``exactly`` to the script; and
        what the envelope held. Tags are not judged.
        """
        codec = self._settings[region].codec
        assert codec is not None, "a region of an encoding backend has a codec"
        value, left = _parts(reply) if exactly else reply
        if self._claims and not stale:
            self._claims.witness(region, key, value, sent_at)
        if type(value) is bytes and len(value) >= BULK_BYTES:
            self._sized(self._names.entry(region, key), len(value))
        return _exactly(codec, key, value, left) if exactly else _opened(codec, key, value, left)

    def _witness(
        self, region: str, keys: Sequence[str], values: Sequence[Reply], deadline: float
    ) -> None:
        if self._claims:
            sent_at = deadline - self._link.timeout
            for key, value in zip(keys, values, strict=True):
                self._claims.witness(region, key, value, sent_at)

    def _any_large(self, names: Sequence[bytes]) -> bool:
        return bool(self._large) and any(name in self._large for name in names)

    def _all_sized(self, names: Sequence[bytes], values: Sequence[Reply], bulk: bool) -> None:
        for name, value in zip(names, values, strict=True):
            if type(value) is bytes and (len(value) >= BULK_BYTES or bulk):
                self._sized(name, len(value))

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
    """What ``GET`` and ``PTTL`` mean, or ``GET`` alone for an entry without a grace."""
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
    if type(value) is bytes and is_claim(value):
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
