"""What is missing in the cache is read from storage, and cached over a claim.

The claim is taken before the query is sent. Whatever happens to the key meanwhile (a write-through
fences it, an invalidation or the relay removes it) ends the claim, so that a row that was read
before a change is never cached after it. Who gets no claim reads all the same and caches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from ..claims import Claim
from ..errors import CacheError
from ..intents import Intent
from ..protocols import Backend, Put
from ..rows import Row
from ..types import MISSING, Record
from .rows import Shape, opened, row_version
from .store import Store

__all__ = ["Reading"]

_LEASE: Final = 30.0
"""Seconds that a claim outlives a reader that has died."""


class Reading:
    """Reads of the regions that have a storage, by name."""

    def __init__(self, backend: Backend, stores: Mapping[str, Store]) -> None:
        self._backend = backend
        self._stores = stores

    async def complete(
        self,
        region: str,
        keys: Sequence[str],
        records: Sequence[Record | None],
        *,
        brief: bool = True,
        fill: bool = True,
    ) -> list[Record | None]:
        """The answers of a read whose cached ``records`` these are; ``fill``: cache what is read.
        Cost: one query for what is missing, shared, and two round trips to cache it.
        """
        store = self._stores[region]
        behind = store.behinds.get(region)
        answers: list[Record | None] = [None if each is None else opened(each) for each in records]
        if behind is not None:
            for record in records:
                behind.saw(row_version(record))  # what is written next is newer than what was read
            self._overlay(store.shapes[region], behind.known(region, keys), keys, records, answers)
        if not brief:
            await self._exact(region, records, answers)
        missing = [key for key, answer in zip(keys, answers, strict=True) if answer is None]
        if missing:
            found = await self.missing(region, list(dict.fromkeys(missing)), fill=fill)
            answers = [
                found.get(key) if answer is None else answer
                for key, answer in zip(keys, answers, strict=True)
            ]
        return [None if each is None or each.value is MISSING else each for each in answers]

    def _overlay(
        self,
        shape: Shape,
        pending: Mapping[str, Intent],
        keys: Sequence[str],
        records: Sequence[Record | None],
        answers: list[Record | None],
    ) -> None:
        """Put what is pending in the place of copies that are older."""
        for at, (key, record) in enumerate(zip(keys, records, strict=True)):
            intent = pending.get(key)
            if intent is not None and (
                record is None or record.tier == "near" or row_version(record) < intent.version
            ):
                if record is not None and record.near is not None:
                    self._backend.keep(intent.region, record, MISSING)
                answers[at] = shape.pending(intent)

    async def _exact(
        self, region: str, records: Sequence[Record | None], answers: list[Record | None]
    ) -> None:
        """A near record does not know its row's version: ask for those of which all is wanted."""
        places = [at for at, record in enumerate(records) if record and record.tier == "near"]
        if not places:
            return
        keys = [records[at].key for at in places]  # type: ignore[union-attr]
        for at, record in zip(places, await self._backend.peek(region, keys), strict=True):
            answer = answers[at]
            if answer is not None and record is not None:
                answers[at] = replace(answer, version=opened(record).version)

    async def missing(
        self, region: str, keys: Sequence[str], *, fill: bool
    ) -> dict[str, Record | None]:
        """What is pending, or in storage, of keys that are not cached."""
        store = self._stores[region]
        shape, behind = store.shapes[region], store.behinds.get(region)
        found: dict[str, Record | None] = {}
        if behind is not None:
            pending = await behind.find(region, keys)
            found |= {key: shape.pending(intent) for key, intent in pending.items()}
            keys = [key for key in keys if key not in found]
        claims: dict[str, Claim] = {}
        if fill and keys:
            asked = await self._backend.claim(region, keys, (), _LEASE)
            for key, answer in zip(keys, asked, strict=True):
                if isinstance(answer, Claim):
                    claims[key] = answer
                elif isinstance(answer, Record):
                    found[key] = opened(answer)
            keys = [key for key in keys if key not in found]
        try:
            rows = await store.asking.rows_of(region, keys) if keys else {}
            if behind is not None:
                for row in rows.values():
                    behind.saw(row.version)
            await self._cache(region, shape, claims, rows)
        finally:
            await self._give_back(region, [claim for claim in claims.values() if not claim.dropped])
        return found | {key: shape.record(row) for key, row in rows.items()}

    async def _cache(
        self, region: str, shape: Shape, claims: Mapping[str, Claim], rows: Mapping[str, Row]
    ) -> None:
        fills: list[tuple[Claim, Put]] = []
        try:
            for key, row in rows.items():
                claim = claims.get(key)
                if claim is not None:
                    if row.tags:
                        await self._backend.extend(region, [claim], row.tags)
                    fills.append((claim, shape.copy(row)))
            if fills:
                await self._backend.fill(region, fills)
        except CacheError:
            return  # the row was read, and is the answer

    async def _give_back(self, region: str, claims: Sequence[Claim]) -> None:
        if claims:
            try:
                await self._backend.release(region, claims)
            except CacheError:
                return  # their lease ends them

    async def claimed(
        self, region: str, keys: Sequence[str], answers: Sequence[Record | Claim | None]
    ) -> list[Record | Claim | None]:
        """The answers to a call for claims: what storage has needs no load. Cost: one query,
        shared.
        """
        open_keys = [
            key for key, each in zip(keys, answers, strict=True) if not isinstance(each, Record)
        ]
        try:
            found = await self.missing(region, list(dict.fromkeys(open_keys)), fill=False)
        except BaseException:
            held = [each for each in answers if isinstance(each, Claim)]
            await self._give_back(region, held)
            raise
        given: list[Record | Claim | None] = []
        spare: list[Claim] = []
        for key, answer in zip(keys, answers, strict=True):
            row = found.get(key)
            if isinstance(answer, Record):
                given.append(opened(answer))
            elif row is None or row.value is MISSING:
                given.append(answer)
            else:
                given.append(row)
                if isinstance(answer, Claim):
                    spare.append(answer)
        await self._give_back(region, spare)
        return given
