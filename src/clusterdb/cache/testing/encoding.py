"""A backend that encodes, as one that is given Python values.

The face encodes what it stores and decodes what it reads. The clauses of
:mod:`clusterdb.cache.testing.conformance` talk to a backend directly, with plain values; for them
this twin does what the face would, by the codec a region has by default::

    harness = Harness(EncodingBackend(DiskBackend(...)), clock)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from msgspec.structs import replace

from ..claims import Claim
from ..codec import RegionCodec, region_codec
from ..config import SerializationConfig
from ..errors import CacheError
from ..protocols import (
    Backend,
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Follower,
    Observer,
    Put,
    Written,
)
from ..settings import RegionSettings
from ..table import Table
from ..types import Record, Version

__all__ = ["EncodingBackend"]

C = TypeVar("C", bound=Change)


class EncodingBackend:
    """Wraps ``backend``. Values must be self-describing: builtins, and containers of them.

    What is read is kept near, and what is read from there is as good; it offers no table.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._codecs: dict[str, RegionCodec] = {}

    # -- values on their way in and out

    def _put(self, region: str, change: C) -> C:
        if isinstance(change, Put):
            return replace(change, value=self._codecs[region].encode(change.value))
        return change

    def _record(self, region: str, record: Record | None) -> Record | None:
        if record is None or record.tier == "near":
            return record
        value = self._codecs[region].decode(record.value)
        if record.near is not None:
            self._backend.keep(region, record, value)
        return replace(record, value=value, near=None)

    # -- the contract

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities - {"near"}

    async def open(self) -> None:
        await self._backend.open()

    async def aclose(self) -> None:
        await self._backend.aclose()

    @property
    def inline(self) -> bool:
        return self._backend.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        for name in regions:
            self._codecs[name] = region_codec(name, SerializationConfig(), None)
        encoded = {name: replace(it, codec=self._codecs[name]) for name, it in regions.items()}
        self._backend.configure(encoded)

    def table(self, region: str) -> Table | None:  # noqa: ARG002 - the contract's
        return None

    def observe(self, observer: Observer | None) -> None:
        self._backend.observe(observer)

    def order(self, versions: Iterator[Version]) -> bool:
        return self._backend.order(versions)

    def follow(self, follower: Follower | None) -> None:
        self._backend.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._backend.fork(moment)

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        records = await self._backend.read(
            region, keys, stale=stale, consistent=consistent, brief=brief
        )
        return [self._record(region, record) for record in records]

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        records = await self._backend.peek(region, keys, stale=stale)
        return [self._record(region, record) for record in records]

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        records = self._backend.last_known(region, keys)
        return [self._record(region, record) for record in records]

    def keep(self, region: str, record: Record, value: object) -> None:
        """Nothing: no record from here has a ``near``."""

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._backend.drop_near(region, keys)

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        return await self._backend.write(region, [self._put(region, each) for each in changes])

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        encoded = [self._put(region, each) for each in changes]
        return await self._backend.commit(region, checks, encoded)

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        answers = await self._backend.claim(region, keys, tags, lease)
        return [
            self._record(region, answer) if isinstance(answer, Record) else answer
            for answer in answers
        ]

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        return await self._backend.fence(region, keys, lease)

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        await self._backend.extend(region, claims, tags)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        encoded = [(claim, self._put(region, put)) for claim, put in fills]
        return await self._backend.fill(region, encoded)

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        await self._backend.release(region, claims)

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        return await self._backend.invalidate_tags(tags)

    def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        return self._backend.scan(region, glob, batch_size, dead=dead)

    async def clear(self, regions: Sequence[str]) -> int:
        return await self._backend.clear(regions)

    async def describe(self) -> BackendInfo:
        return await self._backend.describe()
