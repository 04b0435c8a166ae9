"""Replays of requests: what a policy would have hit, and what the best possible one would have.

``replay`` drives the real table: a request is a ``get``, and on a miss a ``put``. ``optimum`` is
Belady's: it knows the future, and evicts what is needed last, or never takes it in. Source: L.
Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal
1966.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Final

from .guard import TableLock
from .policy import POLICIES, Policy
from .table import Table
from .tags import TagStates
from .types import FOREVER, MISSING

__all__ = ["optimum", "replay"]

_AT_ONCE: Final = 10_000


def replay(
    requests: Sequence[str],
    policy: str,
    capacity: int,
    advance: Callable[[int], None] | None = None,
) -> int:
    """How many of ``requests`` hit in an empty table of ``capacity`` entries under ``policy``.

    ``advance`` is told of each ten thousand requests. O(1) a request.
    """
    make: Callable[[], Policy] = POLICIES[policy]
    table = Table(lock=TableLock(), tags=TagStates(), versions=count(1), policy=make(), now=0.0)
    table.configure(make(), capacity, None, 0.0)
    if not capacity:
        return 0
    hits, get, put = 0, table.get, table.put
    for start in range(0, len(requests), _AT_ONCE):
        part = requests[start : start + _AT_ONCE]
        for key in part:
            if get(key, 0.0) is MISSING:
                put(key, None, deadline=FOREVER, weight=0, now=0.0)
            else:
                hits += 1
        if advance is not None:
            advance(len(part))
    return hits


def optimum(requests: Sequence[str], capacity: int) -> int:
    """How many of ``requests`` the best possible cache of ``capacity`` entries would have hit.

    O(n log n) in the number of requests.
    """
    after = len(requests)
    coming: list[int] = [0] * after
    last: dict[str, int] = {}
    for at in range(after - 1, -1, -1):
        key = requests[at]
        coming[at] = last.get(key, after)
        last[key] = at
    resident: dict[str, int] = {}  # when each is needed next
    furthest: list[tuple[int, str]] = []
    hits = 0
    for at, key in enumerate(requests):
        following = coming[at]
        hits += resident.pop(key, -1) >= 0
        if following == after:
            continue  # never again: it is not worth a place
        if len(resident) >= capacity:
            key_out, needed = _furthest(furthest, resident)
            if needed <= following:
                if needed >= 0:
                    heappush(furthest, (-needed, key_out))
                continue
            del resident[key_out]
        resident[key] = following
        heappush(furthest, (-following, key))
    return hits


def _furthest(heap: list[tuple[int, str]], resident: dict[str, int]) -> tuple[str, int]:
    """Take the resident key that is needed last off the heap; those that have changed are
    dropped.
    """
    while heap:
        needed, key = heappop(heap)
        if resident.get(key) == -needed:
            return key, -needed
    return "", -1
