"""Loads: one loader call a key, shared by all who wait, that loses to any invalidation.

A miss starts a *flight*: it claims its keys in the backend, calls the loader, and fills the claims.
Whatever happens to a key meanwhile (set, delete, invalidation of it or of a tag, clear) ends its
claim, so the value is returned to those who waited and stored nowhere: a value that was read
before an invalidation is never visible after it. The protocol is the lease of memcached
(R. Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013) with tags added.

* A later caller joins a flight only while its claim lives; after an invalidation it starts its own.
* A flight is a task of its own. Waiters are counted: one that is cancelled harms nobody, the last
  one to leave cancels the flight, and nothing is stored.
* A loader's exception reaches all its waiters once. With a negative window it is kept that long,
  unless the key was invalidated meanwhile.
* Past the hard deadline the loader is cancelled and the claims are given back, even if the loader
  won't end. Past the soft one a waiter takes the stale value, if its region keeps one, and the
  flight goes on.
* A loader that waits, through others, for its own flight is told so (:class:`ReentrantLoad`).

Rejected: a lock a key (waiters queue up behind a cancelled or failed holder, and a load that
races an invalidation still wins); remembering versions of absent keys (memory without a bound).

``loads`` joins callers with flights, ``flying`` is what a flight does, ``calling`` runs the loader
within its limits, ``flight`` is the state they share. ``stale`` gives values past their time,
``ahead`` loads live ones again, ``behind`` says how much of that runs where nobody waits.
``returns`` reads a loader's annotation.
"""

from __future__ import annotations

from .flight import LoadPlan
from .loader import LoadContext, Loader
from .loads import Loads
from .returns import returned_type
from .stale import known_lately
from .threads import BlockingRunner, call_for

__all__ = [
    "BlockingRunner",
    "LoadContext",
    "LoadPlan",
    "Loader",
    "Loads",
    "call_for",
    "known_lately",
    "returned_type",
]
