"""The way out of a backend that encodes: values are decoded, kept near, or count as misses.

Stored bytes that can't be read are no error of who reads them: another release, another program or
a bad disk wrote them. They are a miss, and are removed by their version, so that a load can store
anew and nothing newer is lost. To a load, so is an entry of another type than it wants, such as the
``User`` of last week's release.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from .codec import TYPED, Encoded, RegionCodec
from .errors import CacheError, TypeMismatch, TypeRequired, Undecodable
from .hits import Typed
from .protocols import Drop
from .runtime import RegionState, Runtime
from .types import MISSING, Record, RemovalCause

__all__ = ["Decoding"]


class _Opened(msgspec.Struct):
    """What became of some records: by key the values, and those that are to be read again."""

    found: dict[str, Record] = {}
    again: list[str] = []
    unreadable: list[tuple[Record, CacheError]] = []
    refused: TypeMismatch | None = None


class Decoding:
    """Decodes what one region's backend gave."""

    def __init__(self, runtime: Runtime, state: RegionState) -> None:
        self._runtime = runtime
        self._state = state
        self._region = state.settings.name

    # -- many records

    async def open(
        self, records: Iterable[Record], wanted: Any, *, loading: bool
    ) -> tuple[dict[str, Record], list[str]]:
        """The records with their values decoded as ``wanted``, and the keys that must be read again
        past the near tier. What can't be read is absent, and removed.

        Raises :class:`TypeRequired`, and :class:`TypeMismatch` unless ``loading``.
        """
        opened = self._sorted(records, wanted, loading)
        counters = self._state.unreadable.counters
        counters.hits += len(opened.again)
        for record, error in opened.unreadable:
            if record.stale:
                counters.stale_hits += 1
            else:
                counters.hits += 1
            counters.misses += 1
            await self.remove(record, error)
        if opened.refused is not None:
            raise opened.refused
        return opened.found, opened.again

    def _sorted(self, records: Iterable[Record], wanted: Any, loading: bool) -> _Opened:
        opened = _Opened()
        rest = iter(records)
        try:
            for record in rest:
                try:
                    value = self.value(record, wanted)
                except TypeMismatch as error:
                    if loading and not isinstance(error, TypeRequired):
                        opened.unreadable.append((record, error))
                    elif opened.refused is None:
                        opened.refused = error
                except Undecodable as error:
                    opened.unreadable.append((record, error))
                else:
                    if value is MISSING:
                        opened.again.append(record.key)
                    else:
                        opened.found[record.key] = replace(record, value=value, near=None)
        finally:
            self.release(rest)
        return opened

    def release(self, records: Iterable[Record]) -> None:
        """Keep none of ``records`` near."""
        for record in records:
            if record.near is not None:
                self._runtime.backend.keep(self._region, record, MISSING)

    # -- one record

    def unreadable(self, record: Record, wanted: Any) -> CacheError | None:
        """Why a load can't use ``record``; ``None`` where it can."""
        try:
            self.value(record, wanted)
        except TypeRequired:
            return None  # the caller's own mistake, of which it hears when it gets the value
        except (TypeMismatch, Undecodable) as error:
            return error
        return None

    async def remove(self, record: Record, error: CacheError) -> None:
        """Count an entry that can't be read, and remove it unless it has changed by now."""
        self._state.unreadable.note(record.key, error, self._runtime.clock.now())
        checks = [(record.key, record.version)]
        drops = [Drop(record.key, RemovalCause.INVALIDATED)]
        try:
            await self._runtime.backend.commit(self._region, checks, drops)
        except CacheError:
            return  # it stays a miss, and whoever reads it next tries again

    async def exists(self, record: Record, wanted: Any) -> bool:
        """Whether there is a value in ``record``, of whatever type."""
        self.release([record])
        broken: Undecodable | None = None
        try:
            self.value(replace(record, near=None), wanted)
        except TypeMismatch:
            return True
        except Undecodable as error:
            broken = error
        if broken is not None:
            await self.remove(record, broken)
        return broken is None

    def holds(self, record: Record, value: object, wanted: Any) -> bool:
        """Whether ``record`` holds a value of the type of ``value`` that is ``==`` to it."""
        stored, codec = record.value, self._codec
        if not isinstance(stored, Encoded):
            return False
        if stored.flags & TYPED:
            if codec.encode(value) == stored:
                return True
            wanted = type(value) if wanted is None else wanted
        try:
            found = codec.decode(stored, wanted)
        except (TypeMismatch, Undecodable):
            return False
        return type(found) is type(value) and found == value

    def leave(self, key: str, stored: object, wanted: Any) -> object:
        """The value of what is, or would be, stored under ``key``."""
        if not isinstance(stored, Encoded):
            if isinstance(stored, Undecodable):
                raise stored
            return self._from_near(stored, wanted)
        try:
            return self._codec.decode(stored, wanted)
        except TypeMismatch as error:
            raise type(error)(f"{key!r}: {error}") from error

    def value(self, record: Record, wanted: Any) -> object:
        """The value of ``record``, kept near; ``MISSING`` where it came from there and is of no use
        to this caller. Raises :class:`TypeMismatch`, :class:`Undecodable`.
        """
        if record.near is None:
            return self.leave(record.key, record.value, wanted)
        kept: object = MISSING
        try:
            value = self.leave(record.key, record.value, wanted)
            if self._state.shares:
                kept = value if wanted is None else Typed(wanted, value)
        finally:
            self._runtime.backend.keep(self._region, record, kept)
        return value

    def _from_near(self, kept: object, wanted: Any) -> object:
        if not self._state.shares:
            return MISSING
        if isinstance(kept, Typed):
            return kept.value if kept.type == wanted else MISSING
        return kept if wanted is None else MISSING

    @property
    def _codec(self) -> RegionCodec:
        codec = self._state.codec
        assert codec is not None
        return codec
