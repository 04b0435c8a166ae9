"""Circuit breakers in use: the thin edge between :class:`Breaker` and the calls it guards.

``Circuit`` has the clock and tells of each turn. ``GuardedBackend`` is a backend with a circuit in
front of it: while that is open its calls fail at once, with :class:`BackendSuspended`, and so loads
fail open without waiting for a timeout.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeVar

from .breaker import Breaker, CircuitState
from .claims import Claim
from .config import BreakerConfig
from .errors import BackendSuspended, BackendUnavailable, CacheError, Degraded
from .protocols import (
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
from .settings import RegionSettings
from .stats import CircuitStats
from .table import Table
from .types import Record, Version

__all__ = ["Circuit", "GuardedBackend"]

R = TypeVar("R")


class Circuit:
    """One breaker with its clock. ``on_turn`` is told of each new state."""

    def __init__(
        self,
        name: str,
        config: BreakerConfig,
        now: Callable[[], float],
        on_turn: Callable[[Circuit, CircuitState], None],
    ) -> None:
        self.name = name
        self._breaker = Breaker(config)
        self._now = now
        self._on_turn = on_turn
        self._told: CircuitState = "closed"

    @property
    def config(self) -> BreakerConfig:
        """What it was made from."""
        return self._breaker.config

    @property
    def retry_in(self) -> float:
        """Seconds until a call may be let through again."""
        return self._breaker.retry_in(self._now())

    @property
    def in_row(self) -> int:
        """Failures since the last success."""
        return self._breaker.in_row

    def stats(self) -> CircuitStats:
        """Its state and figures at this moment."""
        breaker = self._breaker
        return CircuitStats(
            state=breaker.state,
            opened=breaker.opened,
            refused=breaker.refused,
            in_row=breaker.in_row,
            retry_in=self.retry_in,
        )

    def admits(self) -> bool:
        """Whether a call may be made; one that may ends with one of the three below."""
        admitted = self._breaker.admits(self._now())
        self._tell()
        return admitted

    def succeeded(self) -> None:
        """See :meth:`Breaker.succeeded`."""
        self._breaker.succeeded(self._now())
        self._tell()

    def failed(self) -> None:
        """See :meth:`Breaker.failed`."""
        self._breaker.failed(self._now())
        self._tell()

    def left(self) -> None:
        """See :meth:`Breaker.left`."""
        self._breaker.left()

    def _tell(self) -> None:
        state = self._breaker.state
        if state != self._told:
            self._told = state
            self._on_turn(self, state)


class GuardedBackend:
    """``backend`` behind ``circuit``. What does no I/O, and ``describe``, by which a person looks,
    go past it.
    """

    def __init__(self, backend: Backend, circuit: Circuit) -> None:
        self._backend = backend
        self.circuit = circuit

    async def _call(self, call: Coroutine[Any, Any, R]) -> R:
        circuit = self.circuit
        if not circuit.admits():
            call.close()
            raise BackendSuspended(self.kind, circuit.in_row, circuit.retry_in)
        try:
            answer = await call
        except Degraded:  # some copies took it
            circuit.succeeded()
            raise
        except BackendUnavailable:
            circuit.failed()
            raise
        except CacheError:
            circuit.succeeded()
            raise
        except BaseException:
            circuit.left()
            raise
        circuit.succeeded()
        return answer

    @property
    def kind(self) -> str:
        return self._backend.kind

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self._backend.capabilities

    async def open(self) -> None:
        await self._call(self._backend.open())

    async def aclose(self) -> None:
        await self._backend.aclose()

    @property
    def inline(self) -> bool:
        return self._backend.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._backend.configure(regions)

    def table(self, region: str) -> Table | None:
        return self._backend.table(region)

    def observe(self, observer: Observer | None) -> None:
        self._backend.observe(observer)

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
        return await self._call(
            self._backend.read(region, keys, stale=stale, consistent=consistent, brief=brief)
        )

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        return await self._call(self._backend.peek(region, keys, stale=stale))

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self._backend.last_known(region, keys)

    def keep(self, region: str, record: Record, value: object) -> None:
        self._backend.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._backend.drop_near(region, keys)

    def order(self, versions: Iterator[Version]) -> bool:
        return self._backend.order(versions)

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        return await self._call(self._backend.write(region, changes))

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        return await self._call(self._backend.commit(region, checks, changes))

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        return await self._call(self._backend.claim(region, keys, tags, lease))

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        return await self._call(self._backend.fence(region, keys, lease))

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        await self._call(self._backend.extend(region, claims, tags))

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        return await self._call(self._backend.fill(region, fills))

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        await self._call(self._backend.release(region, claims))

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        return await self._call(self._backend.invalidate_tags(tags))

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        async with aclosing(self._backend.scan(region, glob, batch_size, dead=dead)) as batches:
            while True:
                try:
                    yield await self._call(anext(batches))
                except StopAsyncIteration:
                    return

    async def clear(self, regions: Sequence[str]) -> int:
        return await self._call(self._backend.clear(regions))

    async def describe(self) -> BackendInfo:
        return await self._backend.describe()
