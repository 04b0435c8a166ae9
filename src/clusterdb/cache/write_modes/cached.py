"""Read-through: storage is where what is missing comes from, and writes are the cache's.

A write that looks at what is there (a condition, ``keep_ttl``, a touch, an increment) first has it
read from storage where it is missing. A copy of a row becomes an entry of the cache's own with the
first write, and shadows the row until it expires or is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from ..codec import CodecId, Encoded, addend, bounded
from ..errors import BackendUnavailable, CacheError
from ..protocols import Add, Backend, Change, Check, Committed, Drop, Put, Touch, Written
from ..types import Record
from .reading import Reading

__all__ = ["Cached"]

_Found: TypeAlias = tuple[Record | None, Check]

_TRIES: Final = 32


class Cached:
    """Writes to the cache of regions whose storage is only read."""

    def __init__(self, backend: Backend, reading: Reading) -> None:
        self._backend = backend
        self._reading = reading

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        """Make the changes in order. One round trip, and a read where one has to look first."""
        if not any(_looks(change) for change in changes):
            return await self._backend.write(region, changes)
        outcomes: list[Written | CacheError] = []
        for change in changes:
            try:
                if isinstance(change, Add):
                    outcomes.append(await self._add(region, change))
                elif isinstance(change, Put | Touch) and _looks(change):
                    outcomes.append(await self._look(region, change))
                else:
                    outcomes += await self._backend.write(region, [change])
            except CacheError as error:
                outcomes.append(error)
        return outcomes

    async def _found(self, region: str, keys: Sequence[str]) -> list[_Found]:
        """What is under each key, cached or not, and the check that it is still so in the cache."""
        records = await self._backend.peek(region, keys)
        answers = await self._reading.complete(region, keys, records, fill=False)
        return [
            (answer, (key, None if record is None else record.version))
            for key, record, answer in zip(keys, records, answers, strict=True)
        ]

    async def _look(self, region: str, change: Put | Touch) -> Written:
        """Make a change that depends on what is there, on condition that it still is."""
        for _ in range(_TRIES):
            [(found, check)] = await self._found(region, [change.key])
            if isinstance(change, Touch):
                if found is None:
                    return Written(applied=False)
                put = Put(change.key, found.value, change.ttl, found.tags)
            else:
                if change.when != "always" and (found is None) != (change.when == "absent"):
                    return Written(applied=False)
                kept = change.keep_ttl and found is not None
                ttl = found.expires_in if found is not None and kept else change.ttl
                put = Put(change.key, change.value, ttl, change.tags)
            committed = await self._backend.commit(region, [check], [put])
            if committed is not None:
                return committed.outcomes[0]
        raise _contended(change.key)

    async def _add(self, region: str, add: Add) -> Written:
        for _ in range(_TRIES):
            [(found, check)] = await self._found(region, [add.key])
            total, ttl = add.initial, add.ttl
            tags: tuple[str, ...] = ()
            if found is not None:
                total, ttl, tags = addend(add.key, found.value), found.expires_in, found.tags
            total = bounded(add.key, total + add.delta)
            put = Put(add.key, Encoded(b"%d" % total, CodecId.INTEGER), ttl, tags)
            committed = await self._backend.commit(region, [check], [put])
            if committed is not None:
                return Written(True, committed.outcomes[0].version, total)
        raise _contended(add.key)

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        """All changes if all checks hold, which name versions of rows or of the cache. Two round
        trips, and a read.
        """
        found = await self._found(region, [key for key, _ in checks])
        for (_, version), (record, _) in zip(checks, found, strict=True):
            if (None if record is None else record.version) != version:
                return None
        return await self._backend.commit(region, [check for _, check in found], changes)

    async def drop(self, region: str, changes: Sequence[Put | Drop]) -> Committed:
        """Remove copies, whatever their version is: a newer one is only read again."""
        outcomes = await self._backend.write(region, changes)
        for outcome in outcomes:
            if isinstance(outcome, CacheError):
                raise outcome
        return Committed(tuple([each for each in outcomes if isinstance(each, Written)]))


def _contended(key: str) -> BackendUnavailable:
    return BackendUnavailable(f"{key!r} changed {_TRIES} times between a look and a write")


def _looks(change: Change) -> bool:
    if isinstance(change, Put):
        return change.when != "always" or change.keep_ttl
    return isinstance(change, Add | Touch)
