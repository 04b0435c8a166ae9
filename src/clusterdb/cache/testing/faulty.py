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
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, ParamSpec, TypeVar

import msgspec

from ..errors import BackendUnavailable, OutcomeUnknown
from ..forwarding import ForwardingBackend
from ..protocols import Backend, Capability
from ..table import Table
from ..types import Record

__all__ = ["FaultyBackend"]

P = ParamSpec("P")
T = TypeVar("T")

_METHODS: Final = frozenset(
    {
        "claim",
        "clear",
        "commit",
        "describe",
        "export",
        "extend",
        "fence",
        "fill",
        "invalidate_tags",
        "open",
        "peek",
        "read",
        "release",
        "restore",
        "scan",
        "write",
    }
)


class _Fault(msgspec.Struct):
    error: Exception | None
    times: int | None
    after: bool


class FaultyBackend(ForwardingBackend):
    """Wraps ``backend``. ``calls`` counts the calls of each method, failed ones too.

    It offers no table, so that every operation is a call that can fail.
    """

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
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
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities - {"near"}

    def table(self, region: str) -> Table | None:  # noqa: ARG002 - the contract's
        return None

    async def aclose(self) -> None:
        self.calls["aclose"] += 1
        await self._backend.aclose()

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        self.calls["last_known"] += 1
        return self._backend.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self.calls["keep"] += 1
        self._backend.keep(region, record, value)

    async def _call(
        self,
        operation: str,
        region: str,  # noqa: ARG002 - methods fail in all regions
        count: int,  # noqa: ARG002
        call: Callable[P, Coroutine[Any, Any, T]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        await self._before(operation)
        result = await call(*arguments, **options)
        self._after(operation)
        return result

    async def _batches(
        self,
        operation: str,
        region: str,  # noqa: ARG002
        batches: AsyncGenerator[list[T], None],
    ) -> AsyncGenerator[list[T], None]:
        async with aclosing(batches):
            async for batch in batches:
                await self._before(operation)
                yield batch

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

    def _after(self, method: str) -> None:
        """Lose the reply where the test said so."""
        fault = self._faults.get(method)
        if fault is not None and fault.after:
            self._use(method, fault)
            raise fault.error or OutcomeUnknown(f"{method}: the test lost the reply")

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
