"""A backend that fails, hangs or stays silent on demand: the faulty twin of any backend.

It passes every call to the backend it wraps, unless the test said otherwise::

    backend = FaultyBackend(MemoryBackend(clock))
    backend.fail("read")                          # unreachable until heal()
    backend.fail("write", times=1, after=True)    # carried out, but the reply is lost
    gate = backend.hold("fill")                   # fills wait until gate.set()
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeVar

import msgspec

from ..claims import Claim
from ..errors import BackendUnavailable, CacheError, OutcomeUnknown
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

__all__ = ["FaultyBackend"]

T = TypeVar("T")

_METHODS: Final = frozenset(
    {
        "claim",
        "clear",
        "commit",
        "describe",
        "extend",
        "fence",
        "fill",
        "invalidate_tags",
        "open",
        "peek",
        "read",
        "release",
        "scan",
        "write",
    }
)


class _Fault(msgspec.Struct):
    error: Exception | None
    times: int | None
    after: bool


class FaultyBackend:
    """Wraps ``backend``. ``calls`` counts the calls of each method, failed ones too.

    It offers no table, so that every operation is a call that can fail.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._faults: dict[str, _Fault] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self.calls: Counter[str] = Counter()

    # -- what a test says

    def fail(
        self,
        *methods: str,
        error: Exception | None = None,
        times: int | None = None,
        after: bool = False,
    ) -> None:
        """Let ``methods`` (all when none is named) raise, ``times`` times or until :meth:`heal`.

        ``after``: the call is carried out first. ``error`` defaults to
        :class:`BackendUnavailable`, with ``after`` to :class:`OutcomeUnknown`.
        """
        for method in methods or _METHODS:
            self._faults[_known(method)] = _Fault(error, times, after)

    def hold(self, *methods: str) -> asyncio.Event:
        """Let calls of ``methods`` (all when none is named) wait until the event is set."""
        gate = asyncio.Event()
        for method in methods or _METHODS:
            self._gates[_known(method)] = gate
        return gate

    def heal(self) -> None:
        """Fail no more, and let go of every call that waits."""
        self._faults.clear()
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()

    # -- the contract, passed on

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities - {"near"}

    async def open(self) -> None:
        await self._before("open")
        await self._after("open", self._backend.open())

    async def aclose(self) -> None:
        self.calls["aclose"] += 1
        await self._backend.aclose()

    @property
    def inline(self) -> bool:
        return self._backend.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._backend.configure(regions)

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
        await self._before("read")
        call = self._backend.read(region, keys, stale=stale, consistent=consistent, brief=brief)
        return await self._after("read", call)

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        await self._before("peek")
        return await self._after("peek", self._backend.peek(region, keys, stale=stale))

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        self.calls["last_known"] += 1
        return self._backend.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self.calls["keep"] += 1
        self._backend.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._backend.drop_near(region, keys)

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        await self._before("write")
        return await self._after("write", self._backend.write(region, changes))

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        await self._before("commit")
        return await self._after("commit", self._backend.commit(region, checks, changes))

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        await self._before("claim")
        return await self._after("claim", self._backend.claim(region, keys, tags, lease))

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        await self._before("fence")
        return await self._after("fence", self._backend.fence(region, keys, lease))

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        await self._before("extend")
        await self._after("extend", self._backend.extend(region, claims, tags))

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        await self._before("fill")
        return await self._after("fill", self._backend.fill(region, fills))

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        await self._before("release")
        await self._after("release", self._backend.release(region, claims))

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        await self._before("invalidate_tags")
        return await self._after("invalidate_tags", self._backend.invalidate_tags(tags))

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        async for batch in self._backend.scan(region, glob, batch_size, dead=dead):
            await self._before("scan")
            yield batch

    async def clear(self, regions: Sequence[str]) -> int:
        await self._before("clear")
        return await self._after("clear", self._backend.clear(regions))

    async def describe(self) -> BackendInfo:
        await self._before("describe")
        return await self._after("describe", self._backend.describe())

    # -- inside

    async def _before(self, method: str) -> None:
        """Count the call, wait where it is held, and fail where it fails before it is made."""
        self.calls[method] += 1
        gate = self._gates.get(method)
        if gate is not None:
            await gate.wait()
        fault = self._faults.get(method)
        if fault is not None and not fault.after:
            self._use(method, fault)
            raise fault.error or BackendUnavailable(f"{method}: the test made it unreachable")

    async def _after(self, method: str, call: Awaitable[T]) -> T:
        """Make the call, and lose its reply where the test said so."""
        result = await call
        fault = self._faults.get(method)
        if fault is not None and fault.after:
            self._use(method, fault)
            raise fault.error or OutcomeUnknown(f"{method}: the test lost the reply")
        return result

    def _use(self, method: str, fault: _Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if not fault.times:
            del self._faults[method]


def _known(method: str) -> str:
    if method not in _METHODS:
        raise ValueError(f"no method {method!r} of a backend can fail: {', '.join(_METHODS)}")
    return method
