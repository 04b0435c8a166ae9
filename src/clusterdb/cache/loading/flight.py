"""A flight: the state of one running load, and who waits for whom.

``CHAIN`` holds the flights whose loaders the running code is inside of. A flight that would wait,
directly or through others, for one of them would wait for ever: that is found here, by walking
from flight to flight along what their loaders wait for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Final

import msgspec

from ..circuit import Circuit
from ..claims import Claim
from ..errors import CacheError, ReentrantLoad
from ..options import TTL
from ..pace import Pace
from ..settings import RegionSettings
from ..stats import LoadCounters
from ..types import MISSING, Record
from .loader import Loader
from .threads import BlockingRunner

if TYPE_CHECKING:
    from clusterdb.tracing.tracer import Linked

__all__ = ["CHAIN", "Flight", "LoadPlan", "inside", "refuse_cycle", "refuse_repeat"]


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one caller wants loaded.

    ``store_ttl`` turns a TTL as a person writes it into the seconds to store; ``enter`` and
    ``leave`` are what is done to a value on its way into the cache and out of it. ``runner`` runs
    a blocking loader; by default it gets a thread of its own. Over a backend that encodes,
    ``unreadable`` says why a record is of no use to this caller (``None``: it is of use), and
    ``remove`` removes such a one, so that it can be loaded.
    """

    region: RegionSettings
    counters: LoadCounters
    pace: Pace
    circuit: Circuit | None
    loader: Loader
    ttl: TTL
    tags: tuple[str, ...]
    store_ttl: Callable[[TTL], float | None]
    enter: Callable[[object], object]
    leave: Callable[[str, object], object]
    unreadable: Callable[[Record], CacheError | None] | None
    remove: Callable[[Record, CacheError], Awaitable[None]]
    runner: BlockingRunner | None = None

    def refuses(self, record: Record) -> CacheError | None:
        """Why ``record`` is of no use to this caller, if so."""
        return None if self.unreadable is None else self.unreadable(record)

    def can_use(self, record: Record) -> bool:
        """Whether ``record`` is of use to this caller; one kept near as another type is not."""
        if self.unreadable is None:
            return True
        if self.unreadable(record) is not None:
            return False
        return self.leave(record.key, record.value) is not MISSING


class Flight:
    """One running load of one or more keys.

    ``open`` are the keys whose value is not there yet; ``claiming`` is set while the backend is
    asked for claims, when nobody can tell whether a key may still be joined. ``private``: only who
    started it may have its values, as it learnt tags that its claims do not depend on. ``behind``:
    it renews what its caller was given already, so that nobody need wait for it. ``failure`` is
    what its loader raised. ``span`` is what those who join it are linked to, if it is traced.
    """

    __slots__ = (
        "abandoned",
        "behind",
        "claiming",
        "claims",
        "detached",
        "failure",
        "keys",
        "open",
        "owner",
        "private",
        "region",
        "span",
        "task",
        "traceback",
        "waiters",
        "waits_for",
    )

    task: asyncio.Task[dict[str, object]]

    def __init__(
        self, owner: object, region: str, keys: Sequence[str], *, behind: bool = False
    ) -> None:
        self.owner = owner
        self.region = region
        self.keys = list(keys)
        self.open = set(keys)
        self.claims: dict[str, Claim] = {}
        self.claiming: asyncio.Event | None = None
        self.waiters = 0
        self.waits_for: Counter[Flight] = Counter()
        self.abandoned = False
        self.behind = self.detached = behind
        self.failure: Exception | None = None
        self.private = False
        self.span: Linked | None = None
        self.traceback: TracebackType | None = None

    @property
    def unattended(self) -> bool:
        """Whether it was started behind its caller, and nobody has come to wait for it since."""
        return self.behind and not self.waiters

    def joinable(self, key: str) -> bool:
        """Whether a caller that came just now may have this flight's value for ``key``."""
        if self.abandoned or key not in self.open:
            return False
        claim = self.claims.get(key)
        return claim is None or claim.live()


CHAIN: Final[ContextVar[tuple[Flight, ...]]] = ContextVar("clusterdb_cache_loads", default=())
"""The flights whose loaders we are inside of, outermost first; some may have ended."""


def inside() -> tuple[Flight, ...]:
    """The running flights whose loaders we are inside of, outermost first."""
    return tuple([flight for flight in CHAIN.get() if not flight.task.done()])


def refuse_cycle(target: Flight) -> None:
    """Raise where ``target`` waits, directly or through others, for a load we are inside of."""
    chain = inside()
    seen: set[Flight] = set()
    todo = [target] if chain else []
    while todo:
        flight = todo.pop()
        if flight in chain:
            raise ReentrantLoad([*[held.keys[0] for held in chain], target.keys[0]])
        if flight not in seen:
            seen.add(flight)
            todo += [waited for waited, count in flight.waits_for.items() if count > 0]


def refuse_repeat(owner: object, region: str, key: str) -> None:
    """Raise where a load that we are inside of already loads ``key``, its claim lost or not.

    ``owner`` tells the caches of a process apart: one may stand in front of another.
    """
    chain = inside()
    for flight in chain:
        if flight.owner is owner and flight.region == region and key in flight.keys:
            raise ReentrantLoad([*[held.keys[0] for held in chain], key])
