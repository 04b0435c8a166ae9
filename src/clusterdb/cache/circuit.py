"""Circuit breakers in use: the thin edge between :class:`Breaker` and the calls it guards.

``Circuit`` has the clock and tells of each turn. ``GuardedBackend`` is a backend with a circuit in
front of it: while that is open its calls fail at once, with :class:`BackendSuspended`, and so loads
fail open without waiting for a timeout.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from .breaker import Breaker, CircuitState
from .config import BreakerConfig
from .errors import BackendSuspended, BackendUnavailable, CacheError, Degraded
from .forwarding import ForwardingBackend
from .protocols import Backend, BackendInfo
from .stats import CircuitStats

__all__ = ["Circuit", "GuardedBackend"]

P = ParamSpec("P")
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


class GuardedBackend(ForwardingBackend):
    """``backend`` behind ``circuit``. What does no I/O, and ``describe``, by which a person looks,
    go past it.
    """

    def __init__(self, backend: Backend, circuit: Circuit) -> None:
        super().__init__(backend)
        self.circuit = circuit

    async def _call(
        self,
        operation: str,  # noqa: ARG002 - all are guarded alike
        region: str,  # noqa: ARG002
        count: int,  # noqa: ARG002
        call: Callable[P, Coroutine[Any, Any, R]],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> R:
        circuit = self.circuit
        if not circuit.admits():
            raise BackendSuspended(self.kind, circuit.in_row, circuit.retry_in)
        try:
            answer = await call(*arguments, **options)
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

    def _batches(
        self, operation: str, region: str, batches: AsyncGenerator[list[R], None]
    ) -> AsyncGenerator[list[R], None]:
        return self._one_by_one(operation, region, batches)

    def describe(self) -> Coroutine[Any, Any, BackendInfo]:
        return self._backend.describe()
