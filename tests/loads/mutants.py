"""The guards of the loads, each removed in turn: what the scenarios are tested by.

A mutant is a small edit of a method's source, or a wrapper around it; :func:`apply` puts it in
place for one test. An edit whose text is not found says so: then the guard was rewritten, and its
mutant has to be as well.
"""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import pytest

from clusterdb.cache.claims import Claim, Claims
from clusterdb.cache.loading import Loads, calling, flying, loads, stale
from clusterdb.cache.loading.ahead import Ahead
from clusterdb.cache.loading.flight import Flight
from clusterdb.cache.loading.tasks import Tasks
from clusterdb.cache.runtime import Runtime
from clusterdb.cache.table import Table

__all__ = ["MUTANTS", "Mutant", "apply"]

Mutate = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Mutant:
    """A guard that is missing, and the scenario that has to notice it."""

    name: str
    caught_by: str
    parts: tuple[tuple[Any, str, Mutate], ...]


def apply(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the guard until the end of the test."""
    for owner, name, mutate in mutant.parts:
        monkeypatch.setattr(owner, name, mutate(vars(owner)[name]))


def edit(old: str, new: str) -> Mutate:
    """The method with ``old`` replaced by ``new``."""

    def mutate(function: Callable[..., Any]) -> Callable[..., Any]:
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1, f"{function.__qualname__} has no guard {old!r} (any more)"
        flags = __future__.annotations.compiler_flag
        code = compile(source.replace(old, new), "mutant", "exec", flags, dont_inherit=True)
        made: dict[str, Callable[..., Any]] = {}
        exec(code, vars(sys.modules[function.__module__]), made)
        return made[function.__name__]

    return mutate


def _nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    return wraps(function)(lambda *_: None)


def _keeps_claims(function: Callable[..., Any]) -> Callable[..., Any]:
    """The method of ``Table``, with the claims it ended alive again."""

    @wraps(function)
    def mutated(table: Table, *args: Any, **options: Any) -> Any:
        held = dict(table._claims._claims)
        for claim in held.values():
            table._tags.retain(claim.tags)
        result = function(table, *args, **options)
        for key, claim in held.items():
            if claim.dropped:
                claim.dropped = False
                table._claims._claims[key] = claim
            else:
                table._tags.release(claim.tags)
        return result

    return mutated


def _one(name: str, caught_by: str, owner: Any, method: str, mutate: Mutate) -> Mutant:
    return Mutant(name, caught_by, ((owner, method, mutate),))


async def _whatever_the_window(backend: Any, keys: Any, window: float, plan: Any) -> Any:
    del window
    return await stale.expired_at_most(backend, keys, 1e9, plan)


_ABANDONED = (Flight, "joinable", edit("self.abandoned or ", ""))
_UNREGISTERED = (Loads, "_leave", edit("self._unregister(flight)", "pass"))

MUTANTS = [
    _one("put keeps the claim", "race_set", Table, "put", _keeps_claims),
    _one("remove keeps the claim", "race_invalidate", Table, "remove", _keeps_claims),
    _one("clear keeps the claims", "race_clear_region", Table, "clear", _keeps_claims),
    _one("commit keeps the claims", "race_commit", Table, "commit", _keeps_claims),
    _one("increment keeps the claim", "race_increment", Table, "swap", _keeps_claims),
    _one(
        "tags don't end claims",
        "race_tag",
        Claim,
        "live",
        edit("if not state.live:", "if not state:"),
    ),
    _one(
        "fill ignores the claim",
        "race_set",
        Table,
        "fill",
        edit("if not self._claims.holds(claim):", "if not claim:"),
    ),
    _one(
        "a dead claim's flight is joined",
        "race_invalidate",
        Flight,
        "joinable",
        edit("claim.live()", "True"),
    ),
    _one(
        "a flight with a dead tag is joined",
        "race_tag",
        Flight,
        "joinable",
        edit("claim.live()", "not claim.dropped"),
    ),
    Mutant("an abandoned flight is joined", "impatient", (_ABANDONED, _UNREGISTERED)),
    _one(
        "any caller's leaving ends the flight",
        "first_cancelled",
        Loads,
        "_leave",
        edit("not flight.waiters and ", ""),
    ),
    _one(
        "claims are not given back",
        "race_failing",
        flying.Flying,
        "_release",
        edit("not held", "True"),
    ),
    _one(
        "no second run after a learnt tag",
        "race_learnt_tag",
        flying.Flying,
        "_load_claimed",
        edit(
            "stale)\n            values = await self._call(flight, context, claims, plan)\n",
            "stale)\n",
        ),
    ),
    _one(
        "a claim does not depend on learnt tags",
        "race_learnt_tag",
        Claims,
        "extend",
        _nothing,
    ),
    _one(
        "a tag learnt in the second run is forgotten",
        "moving",
        flying.Flying,
        "_load_claimed",
        edit("if not flight.private and", "if"),
    ),
    _one(
        "a write leaves the negative window",
        "failing_then_written",
        Loads,
        "forget",
        _nothing,
    ),
    _one(
        "a tag or clear leaves the negative window",
        "failing_then_written",
        Loads,
        "forget_all",
        _nothing,
    ),
    _one("flights stay registered", "race_invalidate", Loads, "_unregister", _nothing),
    _one(
        "a flight outlives its last waiter",
        "all_cancelled",
        Loads,
        "_leave",
        edit("flight.task.cancel()", "pass"),
    ),
    _one(
        "a loader outlives its flight",
        "all_cancelled",
        calling.Calls,
        "_within_deadline",
        edit("task.cancel()\n        raise\n", "raise\n"),
    ),
    _one("no check for re-entry", "nested", loads, "refuse_cycle", _nothing),
    _one(
        "re-entry is looked for one step deep",
        "nested",
        loads,
        "refuse_cycle",
        edit("todo += [waited for waited, count in flight.waits_for.items() if count > 0]", "pass"),
    ),
    _one(
        "a soft deadline ends the flight",
        "soft",
        Loads,
        "_leave",
        edit(" and not flight.detached", ""),
    ),
    _one(
        "nothing is given while it is renewed",
        "revalidating",
        Loads,
        "_revalidating",
        edit("if not window", "if window"),
    ),
    _one(
        "nobody renews what was given",
        "revalidating",
        Loads,
        "_start_behind",
        edit("if fresh and", "if not fresh and"),
    ),
    _one(
        "a renewal ends with a caller that joined it",
        "joined_renewal",
        Loads,
        "_leave",
        edit(" and not flight.detached", ""),
    ),
    Mutant(
        "a window has no end",
        "past_window",
        ((loads, "expired_at_most", lambda _: _whatever_the_window),),
    ),
    _one(
        "an expired value outlives its removal",
        "race_revalidating",
        Table,
        "_remove",
        edit("if entry is None:", "if entry is None or entry.deadline <= now:"),
    ),
    _one(
        "an expired value outlives its removal, and is given on an error",
        "race_failing_expired",
        Table,
        "_remove",
        edit("if entry is None:", "if entry is None or entry.deadline <= now:"),
    ),
    _one(
        "a renewal counts as a part of the load it was begun in",
        "renewed_inside",
        flying.Flying,
        "fly",
        edit("(flight,) if flight.behind else (*inside(), flight)", "(*inside(), flight)"),
    ),
    _one(
        "a refresh is stored whatever happened to its key",
        "race_ahead",
        Ahead,
        "_commit",
        edit("[(put.key, version)], [put]", "[], [put]"),
    ),
    _one(
        "a refresh is stored under a tag that nobody watched",
        "learnt_ahead",
        Ahead,
        "_load",
        edit("not set(context.tags) <= set(still[key].tags) or ", ""),
    ),
    _one(
        "no hard deadline",
        "hanging",
        calling.Calls,
        "_within_deadline",
        edit("timeout=hard", "timeout=None"),
    ),
    _one(
        "a loader past its deadline is left running",
        "hanging",
        calling.Calls,
        "_within_deadline",
        edit("task.cancel()\n    return None", "return None"),
    ),
    _one(
        "loads after the close", "closing_after_load", Loads, "load", edit("self._closing", "False")
    ),
    _one(
        "close leaves loads running",
        "closing_after_load",
        Tasks,
        "aclose",
        edit("task.cancel()", "pass"),
    ),
    _one(
        "a key that was found is joined",
        "found_meanwhile",
        Flight,
        "joinable",
        edit(" or key not in self.open", ""),
    ),
    _one(
        "a failure is remembered although its claim was lost",
        "race_negative",
        flying.Flying,
        "_call",
        edit("if claim.live()", "if claim"),
    ),
    _one(
        "a closed runtime makes new loads",
        "closing_after_start",
        Runtime,
        "check_open",
        _nothing,
    ),
]
