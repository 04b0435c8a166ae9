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


# -- near, over a file


def _disk_drops_nothing() -> None:
    from clusterdb.cache.near import NearTier

    nothing(NearTier, "drop")


def _disk_forgets_tags() -> None:
    from clusterdb.cache.near import NearTier

    nothing(NearTier, "end_tag")


def _never_lapses() -> None:
    """What is near answers however long nothing was heard."""
    from clusterdb.cache.near import NearTier

    edit(NearTier, "_grant", "self._verified + settings.max_staleness", "1e12")


# -- near, over Redis


def _verified_at_the_reply() -> None:
    """A heartbeat counts from its reply, and not from its sending."""
    from clusterdb.cache.backends.redis.tracking import Tracked

    edit(Tracked, "_beat", "self.verified_at = sent_at", "self.verified_at = self._link.now()")


def _lost_connection_keeps() -> None:
    """What was read over a connection outlives it."""
    from clusterdb.cache.backends.redis.nearby import Nearby

    nothing(Nearby, "_source_ended")


def _tags_server_lost_keeps() -> None:
    """An entry outlives the connection that would have told of its tags."""
    from clusterdb.cache.backends.redis.known import Known

    edit(Known, "needs", "needs += [state, known.source]", "needs += [state]")


def _null_push_ignored() -> None:
    """Nothing follows from a push that names no key."""
    from clusterdb.cache.backends.redis.tracking import Tracked

    edit(Tracked, "_pushed", "self.end_source()", "return")


def _push_ignored() -> None:
    """Nothing follows from a push that names keys."""
    from clusterdb.cache.backends.redis.nearby import Nearby

    edit(Nearby, "_changed", "self.tier.drop(kind, key, now)", "pass")


def _marks_survive() -> None:
    """A push takes what is near, and not the mark of a read in flight."""
    from clusterdb.cache.table import Table

    guard = "self._claims.drop(key, unless_fence=cause is RemovalCause.INVALIDATED)"
    edit(Table, "_remove", guard, "pass")


def _own_writes_kept() -> None:
    """The near tier hears of an own write's outcome by the push alone."""
    from clusterdb.cache.backends.redis.effects import Effects

    edit(Effects, "made", "self._nearby.drop(region, [change.key for change in changes])", "pass")


def _no_loop() -> None:
    """The server doesn't tell of what our own reads caused, such as evictions."""
    from clusterdb.cache.backends.redis.tracking import Tracked

    edit(Tracked, "_track", '"TRACKING", "ON"', '"TRACKING", "ON", "NOLOOP"')


def _expiry_ignored() -> None:
    """An entry is kept near until the server says that it has expired."""
    from clusterdb.cache.backends.redis.nearby import Nearby

    edit(Nearby, "_judge", "FOREVER if left is None else sent_at + left", "FOREVER")


def _nonces_known_for_ever() -> None:
    """A push for a tag's nonce changes nothing."""
    from clusterdb.cache.backends.redis.nearby import Nearby

    edit(Nearby, "_changed", "self._end(key)", "pass")


def _epoch_ignored() -> None:
    """Nothing follows from a new epoch of the cluster."""
    from clusterdb.cache.backends.redis.tracking import Tracked

    edit(Tracked, "_compare_epochs", "epoch != self._epoch", "False")


# -- primaries that are replaced, writes without an answer


def _unconfirmed() -> None:
    """Whoever says that it is the primary is believed."""
    from clusterdb.cache.backends.redis.confirming import Confirming

    setattr(Confirming, "needed", property(lambda _self: False))  # noqa: B010 - a patch


def _never_repeated() -> None:
    """Invalidations that a failover lost are not made again."""
    from clusterdb.cache.backends.redis.succession import Succession

    async def invalidate(_self: object, _gone: object) -> None:
        return None

    setattr(Succession, "_invalidate", invalidate)  # noqa: B010


def _writes_overtake() -> None:
    """A connection with an unanswered write is not ended on the server."""
    from clusterdb.cache.transport.node import Node

    old = "self._doubted[connection.run_id, connection.client_id] = None"
    edit(Node, "_doubt", old, "pass")


# -- loads, tags


def _redis_fills_without_token() -> None:
    """A fill stores whatever lies under the key by now."""
    from clusterdb.cache.backends.redis import claiming
    from clusterdb.cache.backends.redis.scripts import Script

    body = """
local done = {}
for at, key in ipairs(KEYS) do
  store(key, ARGV[3 * at - 1], ARGV[3 * at])
  done[at] = 1
end
return done
"""
    setattr(claiming, "FILL", Script(body))  # noqa: B010


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


def _joins_unwitnessed() -> None:
    """A caller joins a load whatever its own read of the key found."""
    from clusterdb.cache.backends.redis.held import HeldClaims

    nothing(HeldClaims, "witness")


def _joins_ended_tags() -> None:
    """A caller joins a load whose tags another process has ended."""
    from clusterdb.cache.backends.redis.claiming import Claiming

    async def compare_tags(_self: object, _region: str, _keys: object) -> None:
        return None

    setattr(Claiming, "compare_tags", compare_tags)  # noqa: B010


_LOADS = frozenset({"I1", "I3", "I8"})
# Few keys, loaded all the time and invalidated meanwhile.
_RACY: dict[str, Any] = {
    "rates": {"loads": 300.0, "bumps": 25.0, "tag_bumps": 10.0, "bursts": 20.0, "writes": 2.0},
    "layout": {"registers": 2, "strong": 0, "loaded": 3, "tags": 2, "tagged": 2},
}
# Loads that take longer than the bound, and callers that come meanwhile.
_SLOW: dict[str, float] = {"loads": 60.0, "loading": 2.5, "bursts": 20.0, "writes": 2.0}
_LONG_LOADS: dict[str, Any] = {
    "rates": _SLOW | {"bumps": 1.5},
    "layout": {"registers": 1, "strong": 0, "loaded": 6, "tags": 0},
}
_LONG_TAGGED_LOADS: dict[str, Any] = {
    "rates": _SLOW | {"tag_bumps": 1.5},
    "layout": {"registers": 1, "strong": 0, "loaded": 0, "tags": 3, "tagged": 2},
}
# Only values with a time to live, long enough to be kept.
_FLEETING: dict[str, Any] = {
    "rates": {"fleeting": 0.9, "writes": 6.0},
    "layout": {"registers": 9, "strong": 0, "loaded": 0, "tags": 0},
}
# Written seldom, so that little is read from the server.
_CALM: dict[str, Any] = {
    "rates": {"writes": 4.0, "fresh": 0.0, "lookups": 0.0, "remove": 0.0, "fleeting": 0.0},
    "layout": {"registers": 12, "strong": 0, "loaded": 0, "tags": 0},
}
# Tags of entries that nobody else reads: who reads one learns of its tag anew.
_CALM_TAGS: dict[str, Any] = {
    "rates": {"writes": 2.0, "fresh": 0.0, "lookups": 0.0, "loads": 15.0, "tag_bumps": 3.0},
    "layout": {"registers": 1, "strong": 0, "loaded": 0, "tags": 9, "tagged": 0},
}
# Changed by those who read.
_OWN: dict[str, Any] = {
    "rates": {"writes": 60.0},
    "layout": {"registers": 6, "strong": 0, "loaded": 0, "tags": 0},
}

MUTANTS: dict[str, Mutant] = {
    "disk-drops-nothing": Mutant(_disk_drops_nothing, "disk", "none"),
    "disk-forgets-tags": Mutant(_disk_forgets_tags, "disk", "none", frozenset({"I1"})),
    "disk-never-lapses": Mutant(_never_lapses, "disk", "client-busy"),
    "near-never-lapses": Mutant(_never_lapses, "standalone", "client-busy"),
    "near-verified-at-reply": Mutant(
        _verified_at_the_reply, "standalone", "lag-then-mute", **_CALM
    ),
    "near-lost-connection-keeps": Mutant(_lost_connection_keeps, "standalone", "connections-kill"),
    "near-tags-server-lost-keeps": Mutant(
        _tags_server_lost_keeps, "ring", "black-hole", _LOADS, **_CALM_TAGS
    ),
    "near-null-push-ignored": Mutant(_null_push_ignored, "standalone", "flushall"),
    "near-push-ignored": Mutant(_push_ignored, "standalone", "none"),
    "near-marks-survive": Mutant(_marks_survive, "standalone", "none", **_OWN),
    "near-own-writes-kept": Mutant(
        _own_writes_kept, "standalone", "slow-links", frozenset({"I8"}), **_OWN
    ),
    "near-no-loop": Mutant(_no_loop, "standalone", "eviction"),
    "near-expiry-ignored": Mutant(
        _expiry_ignored, "standalone", "none", frozenset({"TTL"}), **_FLEETING
    ),
    "near-nonces-for-ever": Mutant(_nonces_known_for_ever, "standalone", "none", _LOADS),
    "near-epoch-ignored": Mutant(_epoch_ignored, "cluster", "slots-forced", **_CALM),
    "primary-unconfirmed": Mutant(_unconfirmed, "sentinel", "host-stop"),
    "succession-never-repeated": Mutant(
        _never_repeated, "sentinel", "primary-cut", frozenset({"I8"})
    ),
    "writes-overtake": Mutant(
        _writes_overtake, "standalone", "held-back", frozenset({"I8"}), **_OWN
    ),
    "redis-fills-without-token": Mutant(
        _redis_fills_without_token, "standalone", "none", _LOADS, **_RACY
    ),
    "redis-forgets-nonces": Mutant(_redis_forgets_nonces, "standalone", "none", _LOADS),
    "joins-dead-flights": Mutant(_joins_dead_flights, "standalone", "none", _LOADS, **_RACY),
    "joins-unwitnessed": Mutant(_joins_unwitnessed, "standalone", "none", _LOADS, **_LONG_LOADS),
    "joins-ended-tags": Mutant(
        _joins_ended_tags, "standalone", "none", _LOADS, **_LONG_TAGGED_LOADS
    ),
}


def apply(name: str) -> None:
    """Take the guard away, in this process."""
    if name:
        MUTANTS[name].patch()
