"""The contracts between the services and the adapters: what a backend must do.

A backend holds cached entries. It is small and vectorised: lists in, lists out, so that one call
is one round trip a node. The operations of the face are built on these.

For every method: keys and options were checked by the caller. ``region`` was named in the latest
``configure``. Each item of a list is atomic by itself; only ``commit`` joins several. A method
raises :class:`BackendUnavailable` when the backend can't be reached and
:class:`OutcomeUnknown` when a write's reply never came; what goes wrong with one item only is
returned in that item's place. A cancelled call leaves each item done or not done, never half.
The factory opens a backend, the manager closes it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from .claims import Claim
from .errors import CacheError
from .members import Member
from .settings import RegionSettings
from .stats import Counters
from .table import Check, Removal, Table, When
from .types import Record, RemovalCause, Version

__all__ = [
    "Add",
    "Backend",
    "BackendInfo",
    "Capability",
    "Change",
    "ChangeKind",
    "Channel",
    "ChannelReceiver",
    "Check",
    "Committed",
    "Drop",
    "Follower",
    "Member",
    "Observer",
    "Put",
    "RegionInfo",
    "RemoteChange",
    "ServerInfo",
    "Touch",
    "Written",
]

Capability: TypeAlias = Literal[
    "objects", "atomic", "multi_process", "persistent", "near", "immediate"
]
"""What not every backend can do.

``objects``: keeps values as they are, without encoding. ``atomic``: ``commit`` over several keys.
``multi_process``: shared by processes. ``persistent``: outlives the process. ``near``: hits may be
answered by a table in process. ``immediate``: once open, no call ever waits, and each may come
from any thread."""

Observer: TypeAlias = Callable[[str, Sequence[Removal]], None]
"""Told of entries that left a region by themselves: evicted or expired."""


ChangeKind: TypeAlias = Literal[
    "set",
    "touch",
    "nothing",
    "delete",
    "invalidate",
    "invalidate_tag",
    "clear",
    "evict",
    "node_down",
    "node_up",
    "gap",
]
"""What can be told of another process, or a server. ``nothing``: it deleted what was not there."""


class RemoteChange(msgspec.Struct, frozen=True):
    """What another process changed. ``key`` is the tag of an ``invalidate_tag``; ``version`` is
    that of what was ``set``; ``origin`` names the process, ``time`` is seconds since the Unix
    epoch; ``count`` is how many changes a ``gap`` stands for. ``key`` is also the name of a server,
    ``text`` why it is down.
    """

    kind: ChangeKind
    region: str = ""
    key: str = ""
    version: Version = 0
    origin: str = ""
    time: float = 0.0
    count: int = 0
    text: str = ""


Follower: TypeAlias = Callable[[Sequence[RemoteChange]], None]
"""Told of what other processes changed, in order, and of servers that come and go."""


class Put(msgspec.Struct, frozen=True):
    """Store ``value``, which for a backend that encodes is an :class:`Encoded`. ``ttl`` is in
    seconds, ``None`` for ever; ``keep_ttl`` keeps the expiry of a live entry; ``when`` is the
    condition on the key. ``default_ttl``: nobody asked for this TTL, it is the region's.
    """

    key: str
    value: Any
    ttl: float | None = None
    tags: tuple[str, ...] = ()
    when: When = "always"
    keep_ttl: bool = False
    default_ttl: bool = False


class Touch(msgspec.Struct, frozen=True):
    """Give a live entry a new TTL (seconds, ``None`` for ever)."""

    key: str
    ttl: float | None


class Add(msgspec.Struct, frozen=True):
    """Add ``delta`` to an integer; if absent start from ``initial``, with ``ttl``, which may be the
    region's, as in :class:`Put`.
    """

    key: str
    delta: int
    initial: int
    ttl: float | None
    default_ttl: bool = False


class Drop(msgspec.Struct, frozen=True):
    """Remove the entry and end the claim on the key."""

    key: str
    cause: RemovalCause = RemovalCause.DELETED


Change: TypeAlias = Put | Touch | Add | Drop


class Written(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a change: ``version`` after it (0: a Drop or a condition that failed),
    ``applied``, and the sum of an ``Add``.
    """

    applied: bool
    version: Version = 0
    total: int = 0


class Committed(msgspec.Struct, frozen=True):
    """A commit that was made, with the outcome of each change, in order."""

    outcomes: tuple[Written, ...]


class RegionInfo(msgspec.Struct, frozen=True):
    """A region as its backend sees it: ``counters`` of this process, ``totals`` of all processes
    where the backend keeps them. ``items`` and ``weight`` are ``None`` where it does not know them
    without counting. ``share``: its present part of a total that the regions share.
    """

    items: int | None
    weight: int | None
    counters: Counters
    totals: Counters | None = None
    share: int | None = None


class ServerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A server that holds entries, at one moment.

    ``latency`` is seconds of one round trip; ``memory`` and ``max_memory`` bytes, 0 without a
    limit; ``policy`` what it evicts by; ``lag`` how many bytes its slowest replica is behind,
    ``None`` without replicas; ``near`` is why nothing is kept near of what it holds, if so.
    ``connections`` of this process are open; it has had none left, and
    got one again, ``reconnects`` times. One that can't be asked has a ``problem`` and none of the
    other figures.
    """

    name: str
    role: str = ""
    version: str = ""
    latency: float = 0.0
    memory: int = 0
    max_memory: int = 0
    policy: str = ""
    evictions: int = 0
    clients: int = 0
    replicas: int = 0
    lag: int | None = None
    near: str = ""
    connections: int = 0
    reconnects: int = 0
    problem: str = ""


class BackendInfo(msgspec.Struct, frozen=True):
    """A backend at one moment; ``problems`` are sentences for a person, with the remedy. ``size``
    is bytes on disk, ``members`` who shares it, ``servers`` those that hold it, where the backend
    knows. ``near_age``: how many seconds ago it surely knew all changes by others, where it keeps
    something near.
    """

    kind: str
    tags: int
    regions: dict[str, RegionInfo]
    problems: tuple[str, ...] = ()
    size: int | None = None
    members: tuple[Member, ...] = ()
    servers: tuple[ServerInfo, ...] = ()
    near_age: float | None = None


class Backend(Protocol):
    """Where cached entries live.

    One without ``objects`` encodes: it is given values as :class:`Encoded` and gives them back so,
    except in a record of tier ``near``, whose value is what ``keep`` was given. Where it can't open
    what it stored, a record's value is the :class:`Undecodable` that says why; it counts as the hit
    it looked like.
    """

    @property
    def kind(self) -> str:
        """The name it has in a configuration."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do beyond the contract."""
        ...

    async def open(self) -> None:
        """Connect, start background work in the running loop. May be called again after the loop
        it was opened in has ended; contents that outlive a loop stay.
        """
        ...

    async def aclose(self) -> None:
        """End background work and connections. Idempotent."""
        ...

    @property
    def inline(self) -> bool:
        """Whether calls may just now come from any thread that runs no event loop: they then end
        without suspending, and may block that thread.
        """
        ...

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        """Declare all regions and their settings; new ones are made, known ones changed with
        their contents kept, none is dropped. Does no I/O.
        """
        ...

    def table(self, region: str) -> Table | None:
        """The table whose ``get`` may answer hits without a call to the backend, if any."""
        ...

    def observe(self, observer: Observer | None) -> None:
        """Tell ``observer`` of removals from now on; ``None`` stops it."""
        ...

    def order(self, versions: Iterator[Version]) -> bool:
        """Draw versions that can be compared with those that other processes draw, from now on:
        from ``versions``, where entries have no other order. Whether it does. A filled value has
        the version of the moment it was claimed, where the backend is in the process.
        """
        ...

    def follow(self, follower: Follower | None) -> None:
        """Tell ``follower`` of what other processes change, and of servers that come and go, from
        now on; ``None`` stops it.
        """
        ...

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        """Around a fork: bring what is shared by threads into order before it; after it go on in
        the parent, and let go of the parent's locks, tasks and connections in the child.
        """
        ...

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        """What is under each key. ``stale`` takes entries within their grace, ``consistent``
        the latest completed write, which is never of tier ``near``; after a ``brief`` read
        without ``stale``, ``expires_in`` may be ``None`` whatever the expiry. One round trip a
        node.
        """
        ...

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        """As ``read``, leaving no trace in statistics and eviction. One round trip a node."""
        ...

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        """What this process holds of each key, for a time when the backend can't be reached; no
        I/O. In a region with ``stale_if_error`` a value that was kept near answers past its lease
        here: ``age_bound`` says how long ago it was surely current, and the caller whether that is
        too long. Nothing that was removed since, as far as this process has heard.
        """
        ...

    def keep(self, region: str, record: Record, value: object) -> None:
        """Keep a decoded value near, unless it is ``MISSING`` or something happened to its key
        meanwhile; called once for each record that has a ``near``, which ends with it.
        """
        ...

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        """Keep ``keys`` near no more, and nothing of them that was read before now."""
        ...

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        """Carry out the changes in order. One round trip a node."""
        ...

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        """All changes if all checks hold, else none and ``None``. One key has one change."""
        ...

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        """For each key: its live entry, or a claim, or ``None`` while another holds one. A claim
        depends on the present states of ``tags``; in a backend that outlives its users it ends
        ``lease`` seconds after its holder was last heard of.
        """
        ...

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        """A claim on each key, whatever is there: the entry goes, and another's claim ends. Nobody
        else gets one meanwhile, so that what storage holds before a commit can't be cached after
        it. It is held, extended, filled and given back as any claim, but a removal as
        ``INVALIDATED`` leaves it alone: it is no copy. The keys differ. One round trip a node.
        """
        ...

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        """Let claims depend on the present states of more tags."""
        ...

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        """Store over live claims; a lost claim stores nothing. Ends the claims."""
        ...

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        """Give claims back unfilled. Idempotent."""
        ...

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        """End the tags' present states, in all regions: O(1) a tag. How many entries and claims
        pointed to them, where the backend knows, else 0.
        """
        ...

    def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        """Keys that match, in batches, in no order, each once. A key that is there from start to
        end is given; one that comes or goes meanwhile may be. ``dead``: also those within their
        grace, and those that only a claim is on; others that are dead may be given.
        """
        ...

    async def clear(self, regions: Sequence[str]) -> int:
        """Remove every entry of ``regions`` and end their claims; how many entries it was."""
        ...

    async def describe(self) -> BackendInfo:
        """Figures and problems. One round trip a node."""
        ...


class ChannelReceiver(Protocol):
    """Who hears a channel. Its methods are called in the loop that listens, and don't wait."""

    def connected(self, *, missed: bool) -> None:
        """What is sent from now on is received; ``missed``: something before may not have been."""
        ...

    def disconnected(self, reason: str) -> None:
        """Nothing is received until the next ``connected``. Told of each failed attempt too."""
        ...

    def received(self, messages: Sequence[bytes]) -> None:
        """Messages came, in order; our own may be among them, and anybody's."""
        ...


class Channel(Protocol):
    """A way for small messages between processes: to whoever listens, in order for each sender.

    Used in one event loop at a time, and again in another after that one has ended.
    """

    async def send(self, messages: Sequence[bytes]) -> None:
        """Send messages in order. Raises :class:`BackendUnavailable` where some may not have been
        sent, or :class:`CacheError` where they were refused. One round trip.
        """
        ...

    async def listen(self, receiver: ChannelReceiver) -> None:
        """Receive until cancelled: connect, tell ``receiver``, and connect again whenever the
        connection is lost. Raises nothing for that.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        ...

    def forked(self) -> None:
        """In the child of a fork: forget the parent's connections."""
        ...
