"""A storage that fails, hangs or loses replies on demand: the faulty twin of any storage.

It passes every call to the storage it wraps, unless the test said otherwise::

    storage = FaultyStorage(inner)
    storage.fail("read")                          # unreachable until heal()
    storage.fail("write", times=1, after=True)    # committed, but the reply is lost
    gate = storage.hold("write")                  # writes wait until gate.set()
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from ..errors import CacheError, OutcomeUnknown, StorageUnavailable
from ..rows import (
    Row,
    RowChange,
    RowChanged,
    RowWritten,
    Storage,
    StorageCapability,
    StorageInfo,
)
from ..upkeep import Space

__all__ = ["FaultyStorage"]

T = TypeVar("T")

_METHODS: Final = frozenset(
    {
        "changes",
        "clear",
        "describe",
        "open",
        "position",
        "prune",
        "read",
        "scan",
        "space",
        "wait",
        "write",
    }
)


class _Fault(msgspec.Struct):
    error: Exception | None
    times: int | None
    after: bool


class FaultyStorage:
    """Wraps ``storage``. ``calls`` counts the calls of each method, failed ones too."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
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
        :class:`StorageUnavailable`, with ``after`` to :class:`OutcomeUnknown`.
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
        return self._storage.kind

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        return self._storage.capabilities

    @property
    def deadline(self) -> float:
        return self._storage.deadline

    async def open(self) -> None:
        await self._before("open")
        await self._after("open", self._storage.open())

    async def aclose(self) -> None:
        self.calls["aclose"] += 1
        await self._storage.aclose()

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        await self._before("read")
        return await self._after("read", self._storage.read(region, keys))

    async def write(
        self,
        changes: Sequence[RowChange],
        *,
        atomic: bool = False,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None = None,
    ) -> list[RowWritten | CacheError]:
        await self._before("write")
        call = self._storage.write(changes, atomic=atomic, before_commit=before_commit)
        return await self._after("write", call)

    async def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        async for batch in self._storage.scan(region, batch_size):
            await self._before("scan")
            yield batch

    async def clear(self, regions: Sequence[str]) -> int:
        await self._before("clear")
        return await self._after("clear", self._storage.clear(regions))

    async def position(self) -> str:
        await self._before("position")
        return await self._after("position", self._storage.position())

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        await self._before("changes")
        return await self._after("changes", self._storage.changes(after, limit))

    async def wait(self, timeout: float) -> None:
        await self._before("wait")
        await self._after("wait", self._storage.wait(timeout))

    async def prune(self, older_than: float) -> int:
        await self._before("prune")
        return await self._after("prune", self._storage.prune(older_than))

    async def space(self) -> list[Space]:
        await self._before("space")
        return await self._after("space", self._storage.space())

    async def describe(self) -> StorageInfo:
        await self._before("describe")
        return await self._after("describe", self._storage.describe())

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
            raise fault.error or StorageUnavailable(f"{method}: the test made it unreachable")

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
        raise ValueError(f"no method {method!r} of a storage can fail: {', '.join(_METHODS)}")
    return method
