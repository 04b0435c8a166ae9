"""A memory backend that is given bytes only, as a disk or a server is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.claims import Claim
from clusterdb.cache.clock import Clock
from clusterdb.cache.codec import CodecId, Encoded
from clusterdb.cache.errors import CacheError, InvalidArgument, TypeMismatch
from clusterdb.cache.protocols import Add, Capability, Change, Check, Committed, Drop, Put, Written
from clusterdb.cache.settings import RegionSettings
from clusterdb.cache.table import Table
from clusterdb.cache.types import FOREVER, MISSING, Record

__all__ = ["BytesBackend"]


class BytesBackend(MemoryBackend):
    """Keeps :class:`Encoded` as it is.

    ``near``: what was kept decoded is given back until its key changes, with tier ``near``.
    ``owed`` are the records that ``keep`` was not called for yet.
    """

    kind: ClassVar[str] = "bytes"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"atomic"})

    def __init__(self, clock: Clock, *, near: bool = False) -> None:
        super().__init__(clock)
        self.near: dict[tuple[str, str], Record] | None = {} if near else None
        self.owed: dict[object, Record] = {}
        self.regions: dict[str, RegionSettings] = {}

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        assert all(settings.codec is not None for settings in regions.values())
        self.regions |= regions
        super().configure(regions)

    def table(self, region: str) -> Table | None:
        return None

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        found = await super().read(region, keys, stale=stale, brief=brief)
        return [record and self._nearer(region, record, consistent) for record in found]

    def _nearer(self, region: str, record: Record, consistent: bool) -> Record:
        if self.near is None:
            return record
        kept = self.near.get((region, record.key))
        if kept is not None and not consistent:
            return kept
        token = object()
        self.owed[token] = record
        return _with(record, near=token)

    def keep(self, region: str, record: Record, value: object) -> None:
        assert self.near is not None
        del self.owed[record.near]
        if value is not MISSING:
            kept = _with(record, value=value, near=None, tier="near")
            self.near[region, record.key] = kept

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        for change in changes:
            assert not isinstance(change, Put) or isinstance(change.value, Encoded)
        self._changed(region, [change.key for change in changes])
        return await super().write(region, changes)

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        self._changed(region, [change.key for change in changes])
        return await super().commit(region, checks, changes)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        assert all(isinstance(put.value, Encoded) for _, put in fills)
        self._changed(region, [put.key for _, put in fills])
        return await super().fill(region, fills)

    def _changed(self, region: str, keys: Sequence[str]) -> None:
        for key in keys:
            if self.near is not None:
                self.near.pop((region, key), None)

    def _apply(self, region: str, change: Change, weight: int, now: float) -> Written:
        if not isinstance(change, Add):
            return super()._apply(region, change, weight, now)
        table = self._tables[region]
        record = table.peek(change.key, now)
        stored = None if record is None else record.value
        if stored is not None and stored.codec != CodecId.INTEGER:
            raise TypeMismatch(f"increment needs an int: {change.key!r} holds something else")
        total = (change.initial if stored is None else int(stored.payload)) + change.delta
        if not -(2**63) <= total < 2**63:
            raise InvalidArgument(f"increment of {change.key!r} would leave 64 bits: {total}")
        version = table.swap(
            change.key,
            0 if record is None else record.version,
            Encoded(b"%d" % total, CodecId.INTEGER),
            deadline=FOREVER if change.ttl is None else now + change.ttl,
            weight=weight,
            now=now,
        )
        return Written(applied=True, version=version, total=total)


def _with(record: Record, **changes: Any) -> Record:
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    return Record(**fields | changes)
