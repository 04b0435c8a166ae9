"""Guards, each of which can be taken away in a worker process: what the checkers are checked by.

A mutant is one line here and the function that it names, which patches the pure build. Say by which
fault and invariant it is to be noticed: a mutant that survives is first a fault of the harness.
"""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MUTANTS", "Mutant", "apply", "edit", "nothing"]


@dataclass(frozen=True)
class Mutant:
    """``patch`` takes the guard away; ``fault`` is under which of `faults.FAULTS` it is noticed,
    on ``topology``; ``noticed`` are the invariants of which one must be violated. ``rates`` and
    ``layout`` are laid over those of a run.
    """

    patch: Callable[[], None]
    topology: str
    fault: str
    noticed: frozenset[str] = frozenset({"I1", "I2", "I4", "I6", "I8", "TTL"})
    rates: dict[str, float] = field(default_factory=dict)
    layout: dict[str, int] = field(default_factory=dict)


def edit(owner: Any, name: str, old: str, new: str) -> None:
    """Replace a piece of a method's source, which must be there once."""
    function = vars(owner)[name]
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(old) != 1:
        raise LookupError(f"{function.__qualname__} has no guard {old!r} (any more)")
    flags = __future__.annotations.compiler_flag
    code = compile(source.replace(old, new), "mutant", "exec", flags, dont_inherit=True)
    made: dict[str, Any] = {}
    exec(code, vars(sys.modules[function.__module__]), made)
    setattr(owner, name, made[function.__name__])


def nothing(owner: Any, name: str) -> None:
    """Let a method do nothing."""
    setattr(owner, name, lambda *_args, **_options: None)


def _disk_drops_nothing() -> None:
    from clusterdb.cache.near import NearTier

    nothing(NearTier, "drop")


def _disk_forgets_tags() -> None:
    from clusterdb.cache.near import NearTier

    nothing(NearTier, "end_tag")


def _disk_never_lapses() -> None:
    from clusterdb.cache.near import NearTier

    grant: Any = vars(NearTier)["_grant"]
    setattr(NearTier, "_grant", lambda self, _lease: grant(self, 1e12))  # noqa: B010 - a patch


def _redis_fills_without_token() -> None:
    """A fill stores whatever lies under the key by now."""
    from clusterdb.cache.backends.redis import claiming
    from clusterdb.cache.backends.redis.scripts import Script

    setattr(claiming, "FILL", Script("store(KEYS[1], ARGV[2], ARGV[3])\nreturn 1\n"))  # noqa: B010


def _redis_forgets_nonces() -> None:
    """An entry's tags are not compared with the present ones."""
    from clusterdb.cache.backends.redis.nonces import Nonces

    async def alive(_self: object, _region: str, stamps: Any, _deadline: Any = None) -> list[bool]:
        return [True for _ in stamps]

    setattr(Nonces, "alive", alive)  # noqa: B010


def _joins_dead_flights() -> None:
    """A caller joins a load whose key was invalidated since."""
    from clusterdb.cache.loading.flight import Flight

    edit(Flight, "joinable", "claim.live()", "True")


_LOADS = frozenset({"I1", "I8"})
# Few keys, loaded all the time and invalidated meanwhile.
_RACY: dict[str, Any] = {
    "rates": {"loads": 300.0, "bumps": 25.0, "tag_bumps": 10.0, "bursts": 20.0, "writes": 2.0},
    "layout": {"registers": 2, "strong": 0, "loaded": 3, "tags": 2, "tagged": 2},
}


MUTANTS: dict[str, Mutant] = {
    "disk-drops-nothing": Mutant(_disk_drops_nothing, "disk", "none"),
    "disk-forgets-tags": Mutant(_disk_forgets_tags, "disk", "none", frozenset({"I1"})),
    "disk-never-lapses": Mutant(_disk_never_lapses, "disk", "client-busy"),
    "redis-fills-without-token": Mutant(
        _redis_fills_without_token, "standalone", "none", _LOADS, **_RACY
    ),
    "redis-forgets-nonces": Mutant(_redis_forgets_nonces, "standalone", "none", _LOADS),
    "joins-dead-flights": Mutant(_joins_dead_flights, "standalone", "none", _LOADS, **_RACY),
}


def apply(name: str) -> None:
    """Take the guard away, in this process."""
    if name:
        MUTANTS[name].patch()
