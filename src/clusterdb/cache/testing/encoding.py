"""A backend that encodes, as one that is given Python values.

The face encodes what it stores and decodes what it reads. The clauses of
:mod:`clusterdb.cache.testing.conformance` talk to a backend directly, with plain values; for them
this twin does what the face would, by the codec a region has by default::

    harness = Harness(EncodingBackend(DiskBackend(...)), clock)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from ..claims import Claim
from ..codec import RegionCodec, region_codec
from ..config import SerializationConfig
from ..errors import CacheError
from ..forwarding import ForwardingBackend
from ..protocols import Backend, Capability, Change, Check, Committed, Drop, Put, Written
from ..settings import RegionSettings
from ..table import Table
from ..types import Record

__all__ = ["EncodingBackend"]

C = TypeVar("C", bound=Change)


class EncodingBackend(ForwardingBackend):
    """Wraps ``backend``. Values must be self-describing: builtins, and containers of them.

    What is read is kept near, and what is read from there is as good; it offers no table.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
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

    # -- the contract, as far as values are in it

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities - {"near"}

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        for name in regions:
            self._codecs[name] = region_codec(name, SerializationConfig(), None)
        encoded = {name: replace(it, codec=self._codecs[name]) for name, it in regions.items()}
        self._backend.configure(encoded)

    def table(self, region: str) -> Table | None:  # noqa: ARG002 - the contract's
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

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        encoded = [(claim, self._put(region, put)) for claim, put in fills]
        return await self._backend.fill(region, encoded)
