"""The health of a cache: one look at the backend, and what stands in the way of its work.

**Live** is a cache that goes on or comes back by itself, however bad things are around it: only one
that was closed is not, as nothing but a new start mends that. **Ready** is one that can answer: its
backend does. Everything else is *degraded*: the cache works, and somebody should look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from clusterdb.monitoring import Health, HealthCheck

from .circuit import Circuit
from .diagnosis import Diagnosis, Trouble, diagnose
from .errors import CacheError
from .protocols import BackendInfo
from .runtime import Runtime

__all__ = ["collect_health", "copies_of", "told"]

_NAMES: Final[dict[Trouble, str]] = {
    "Out of memory": "memory",
    "High latency": "latency",
    "Inconsistent data": "consistency",
}


async def collect_health(runtime: Runtime, inactive: Mapping[str, str]) -> Health:
    """Whether the cache can do its work, and what stands in its way."""
    if runtime.closed:
        closed = HealthCheck("cache", "failing", "closed: build a new Cache", "build a new Cache")
        return Health((closed,))
    alive = HealthCheck("cache", "ok", "open")
    try:
        await runtime.ready()
        info = await runtime.backend.describe()
    except CacheError as error:
        remedy = "look whether the backend runs and can be reached from here: 'cache doctor FILE'"
        away = HealthCheck("backend", "failing", str(error), remedy)
        return Health((alive, away, *_turned(runtime)))
    return Health(
        (
            alive,
            HealthCheck("backend", "ok", info.kind),
            *_turned(runtime),
            *_backend(info, copies_of(runtime)),
            *_channel(runtime),
            *_maintenance(runtime),
            *[HealthCheck("alert", "degraded", alert.text) for alert in runtime.sampling.alerts],
            *[_inactive(part, reason) for part, reason in inactive.items()],
        )
    )


def copies_of(runtime: Runtime) -> int:
    """How many servers must have each write."""
    return max([state.settings.copies for state in runtime.states.values()], default=1)


def told(problem: str, diagnoses: list[Diagnosis]) -> bool:
    """Whether one of ``diagnoses`` says the same as ``problem``, and more."""
    return any(problem in each.cause for each in diagnoses)


def _backend(info: BackendInfo, copies: int) -> Iterator[HealthCheck]:
    found = [each for each in diagnose(info, copies) if not each.slight]
    for each in found:
        detail = f"{each.error}: {each.cause}"
        yield HealthCheck(_NAMES[each.error], "degraded", detail, each.solution)
    for problem in info.problems:
        if not told(problem, found):
            yield HealthCheck("backend", "degraded", problem)


def _channel(runtime: Runtime) -> Iterator[HealthCheck]:
    if runtime.exchange.problem:
        remedy = (
            "look whether the server of invalidation.notification can be reached; it is tried "
            "again by itself, and near tiers do without it"
        )
        yield HealthCheck("channel", "degraded", runtime.exchange.problem, remedy)


def _maintenance(runtime: Runtime) -> Iterator[HealthCheck]:
    if runtime.maintenance.problem:
        remedy = "mend what it names; it is tried again by itself"
        yield HealthCheck("maintenance", "degraded", runtime.maintenance.problem, remedy)


def _inactive(part: str, reason: str) -> HealthCheck:
    remedy = f"leave {part!r} out of the configuration, so that nobody relies on it"
    return HealthCheck("configuration", "degraded", f"{part!r} is set, and {reason}", remedy)


def _turned(runtime: Runtime) -> list[HealthCheck]:
    """The circuit breakers that are not closed."""
    return [_open(each) for each in runtime.circuits if each.stats().state != "closed"]


def _open(circuit: Circuit) -> HealthCheck:
    stats = circuit.stats()
    detail = (
        f"{circuit.name}: the circuit breaker is {stats.state.replace('_', ' ')} after "
        f"{stats.in_row} failures in a row; the next call is let through in "
        f"{stats.retry_in:.3g} s"
    )
    remedy = "mend what it protects: the log and the errors before it say what failed"
    return HealthCheck("circuit", "degraded", detail, remedy)
