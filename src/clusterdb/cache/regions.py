"""A region: a named part of the cache with its own key space and limits, and all the operations.

The cache itself is a region too, called ``default`` (see :mod:`clusterdb.cache.manager`). Costs are
given in round trips to the backend; the memory backend has none.
"""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from datetime import timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from msgspec import UNSET, UnsetType

from .access import Access
from .atomic import Atomic
from .batch import Batch, BatchOperation
from .codec import fits
from .errors import InvalidArgument, NotSupported
from .hits import Hits
from .invalidating import Invalidating
from .keys import check_key, check_keys, shown
from .loading import Loader
from .options import (
    TTL,
    GetOptions,
    Pattern,
    PatternOptions,
    SetOptions,
    resolve_set,
    resolve_ttl,
)
from .protocols import Add, Drop, Touch
from .runtime import Runtime
from .scanning import resolve_pattern, scan_keys
from .storing import Storing
from .typed import require_type
from .types import MISSING, Hit, Lookup, Miss
from .warming import Warming

if TYPE_CHECKING:
    from .decorators import Caching, CachingMany
    from .sync import SyncRegion

__all__ = ["Region"]

T = TypeVar("T")
U = TypeVar("U")
D = TypeVar("D")


def _no_hit(key: object, type: object = None, options: object = None) -> object:
    """The hit path of a typed region, whose values are looked at first."""
    del key, type, options
    return MISSING


def _hit_of(
    hits: Hits, wanted: Any, key: object, type: object = None, options: object = None
) -> object:
    """The hit path of a typed region over an encoding backend."""
    return hits.get(key, wanted if type is None else type, options)


class Region(Invalidating, Storing, Warming, Generic[T]):
    """The operations on one key space."""

    def __init__(self, runtime: Runtime, name: str, type: type[T] | None = None) -> None:
        self._runtime = runtime
        self._state = runtime.state(name)
        self._access = Access(runtime, self._state, type)
        self._type = type
        self._as_decoded = type is None and self._access.encodes
        """Whether there is nothing left to do to a value that was decoded as what it says."""
        hits = self.hits = self._state.hits
        self.hit = hits.get if type is None else _no_hit
        if self._access.encodes:
            self.hits = Hits(runtime.clock.now)  # without a table: `hit` knows of types itself
            self.hit = hits.get if type is None else partial(_hit_of, hits, type)

    @property
    def name(self) -> str:
        """The region's name."""
        return self._state.settings.name

    @property
    def typed(self) -> bool:
        """Whether its values are checked to be of a type on their way out."""
        return self._type is not None

    @property
    def access(self) -> Access:
        """The calls of this region to its backend, for other faces of it."""
        return self._access

    @cached_property
    def sync(self) -> SyncRegion[T]:
        """The same operations without ``await``, for scripts and threads."""
        from .sync import SyncRegion

        return SyncRegion(self)

    # -- reading

    @overload
    async def get(self, key: str, *, options: GetOptions | None = None) -> T | None: ...
    @overload
    async def get(self, key: str, default: D, *, options: GetOptions | None = None) -> T | D: ...
    @overload
    async def get(
        self, key: str, *, type: type[U], options: GetOptions | None = None
    ) -> U | None: ...
    @overload
    async def get(
        self, key: str, default: D, *, type: type[U], options: GetOptions | None = None
    ) -> U | D: ...
    async def get(
        self,
        key: str,
        default: Any = None,
        type: Any = None,
        options: GetOptions | None = None,
    ) -> Any:
        """The value under ``key``, or ``default``; ``None`` is a value like any other.

        Raises :class:`TypeMismatch` where the value is not of ``type``. No round trip for a hit
        in process, else one.
        """
        # The fastest call there is: one C call for a hit of an untyped region. The overloads make
        # `type` and `options` keywords; here they are none, as those cost a dictionary look-up.
        value = self.hit(key, type, options)
        if value is not MISSING:
            return value
        if options is None and self.hits.table is not None:
            value = self.hits.get(key)
            if value is not MISSING:
                return self.given(key, value, type)
        value = await self._access.get(check_key(key), options, type)
        if value is MISSING:
            return default
        return value if self._as_decoded and type is None else self.given(key, value, type)

    async def lookup(
        self, key: str, *, type: Any = None, options: GetOptions | None = None
    ) -> Lookup[Any]:
        """What is under ``key``, with version, expiry, tags, tier and an upper bound of its age:
        a :class:`Hit`, a :class:`Miss`, or with ``allow_stale`` a :class:`Stale`. One round trip.
        """
        record = (await self._access.read([check_key(key)], options, type)).get(key)
        if record is None:
            return Miss()
        value = self.given(key, record.value, type)
        if record.stale:
            return record.as_stale(value)
        return Hit(
            value, record.version, record.age_bound, record.expires_in, record.tags, record.tier
        )

    async def get_many(
        self, keys: Iterable[str], *, type: Any = None, options: GetOptions | None = None
    ) -> dict[str, Any]:
        """The values found, by key: a key without one is absent. One round trip a node."""
        wanted = check_keys(keys)
        records = await self._access.read(wanted, options, type, brief=True)
        return {key: self.given(key, record.value, type) for key, record in records.items()}

    async def exists(self, key: str) -> bool:
        """Whether a live entry is under ``key``; counts as no read. One round trip."""
        return await self._access.exists(check_key(key))

    def scan(
        self,
        pattern: str | Pattern = "*",
        *,
        batch_size: int | None = None,
        timeout: float | str | timedelta | None = None,
        options: PatternOptions | None = None,
    ) -> AsyncIterator[str]:
        """Iterate over the keys that match a glob, each once, in no order.

        A key that is there from start to end is given. ``batch_size`` keys are looked at in one
        round trip; past ``timeout`` seconds in all :class:`ScanTimeout` is raised.
        """
        return scan_keys(
            self._runtime, self.name, *resolve_pattern(pattern, batch_size, timeout, options)
        )

    # -- writing

    async def set(
        self,
        key: str,
        value: T,
        *,
        ttl: TTL | UnsetType = UNSET,
        nx: bool | None = None,
        xx: bool | None = None,
        keep_ttl: bool | None = None,
        tags: Iterable[str] | None = None,
        options: SetOptions | None = None,
    ) -> bool:
        """Store ``value``; whether it was (``nx``: only if absent, ``xx``: only if present).

        ``ttl``: seconds, ``timedelta`` or ``"1h30m"``, ``None`` for ever, unset for the region's
        default; an overwrite replaces the expiry unless ``keep_ttl``. Keywords win over
        ``options``. Raises :class:`EntryTooLarge`. One round trip.
        """
        resolved = resolve_set(options, ttl, nx, xx, keep_ttl, tags)
        put = self._access.put(check_key(key), value, resolved)
        return (await self._access.write_one(put)).applied

    async def set_many(
        self,
        mapping: Mapping[str, T],
        *,
        ttl: TTL | UnsetType = UNSET,
        nx: bool | None = None,
        xx: bool | None = None,
        keep_ttl: bool | None = None,
        tags: Iterable[str] | None = None,
        options: SetOptions | None = None,
    ) -> int:
        """Store all of ``mapping``; how many values were stored. Arguments as in :meth:`set`.

        Raises :class:`BatchError` when some failed. One round trip a node.
        """
        resolved = resolve_set(options, ttl, nx, xx, keep_ttl, tags)
        if not isinstance(mapping, Mapping):
            raise InvalidArgument(
                f"set_many takes a mapping of keys to values, not {shown(mapping)}"
            )
        puts = [self._access.put(check_key(key), value, resolved) for key, value in mapping.items()]
        return sum([written.applied for written in await self._access.write(puts)])

    async def touch(self, key: str, ttl: TTL) -> bool:
        """Give the entry under ``key`` a new TTL; whether there was one. One round trip."""
        lifetime = self._state.store_ttl(resolve_ttl(ttl, None))
        written = await self._access.write_one(Touch(check_key(key), lifetime))
        return written.applied

    async def increment(
        self, key: str, delta: int = 1, *, initial: int = 0, ttl: TTL | UnsetType = UNSET
    ) -> int:
        """Add ``delta`` to the integer under ``key`` and return the sum, atomically.

        An absent key starts from ``initial``, with ``ttl``; a present one keeps its expiry. Raises
        :class:`TypeMismatch` for what is not an int, :class:`InvalidArgument` where the sum leaves
        64 bits. One round trip.
        """
        for name, number in (("delta", delta), ("initial", initial)):
            if isinstance(number, bool) or not isinstance(number, int):
                raise InvalidArgument(f"{name} is an int, not {shown(number)}")
            if not fits(int(number)):
                raise InvalidArgument(f"{name} is an int of 64 bits, not {shown(number)}")
        codec = self._state.codec
        if codec is not None and not codec.counts:
            raise NotSupported(
                f"increment adds to ints, and {codec!r} keeps none to add to: keep counters in a "
                f"region whose format is messagepack, json or pickle"
            )
        lifetime = self._state.store_ttl(resolve_ttl(ttl, self._state.settings.ttl))
        written = await self._access.write_one(
            Add(check_key(key), int(delta), int(initial), lifetime, ttl is UNSET)
        )
        return written.total

    async def delete(self, key: str) -> bool:
        """Delete the entry under ``key``, from storage too; whether one was there. One round
        trip.
        """
        written = await self._access.write_one(Drop(check_key(key)))
        return written.applied

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete all ``keys``; how many entries were there. One round trip a node."""
        drops = [Drop(key) for key in check_keys(keys)]
        return sum([written.applied for written in await self._access.write(drops)])

    async def clear(self) -> int:
        """Remove all entries of this region, and let running loads store nothing; how many
        entries there were. One round trip a batch and node.
        """
        return await self._access.clear([self.name])

    def batch(self) -> Batch:
        """Collect changes and make them in one flush: ``async with region.batch() as batch:``."""
        return Batch(self.execute_batch)

    async def execute_batch(self, batch: BatchOperation) -> list[bool]:
        """Make the changes of ``batch`` in order; for each whether it stored or deleted something.

        Each change is atomic, the batch is not. Raises :class:`BatchError` when some failed. One
        round trip a node.
        """
        changes = [self._access.change(change) for change in batch.changes]
        return [written.applied for written in await self._access.write(changes)]

    def atomic(self) -> Atomic:
        """Several keys, all or nothing: ``await region.atomic().check(...).set(...).execute()``."""
        return Atomic(self._access)

    # -- loading

    @overload
    async def get_or_load(
        self,
        key: str,
        loader: Callable[..., Awaitable[U]],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> U: ...
    @overload
    async def get_or_load(
        self,
        key: str,
        loader: Callable[..., U],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> U: ...
    async def get_or_load(
        self,
        key: str,
        loader: Callable[..., Any],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> Any:
        """The value under ``key``, loaded and stored where it is missing.

        However many callers wait, ``loader`` runs once: a coroutine function in the loop, a plain
        function in a thread. It takes nothing, or a :class:`LoadContext`. What it loads is not
        stored if the key, one of ``tags`` or the region was written or invalidated meanwhile. Its
        exception reaches every waiter. Raises :class:`LoadTimeout` past the region's hard
        deadline, :class:`ReentrantLoad` for a loader that waits for itself. No round trip for a
        hit in process; else one, and two more to load.
        """
        found = self.at_once(key, type)
        if found is not MISSING:
            return found
        loading = Loader(loader, many=False)
        values = await self._access.load([check_key(key)], loading, ttl, tags, type=type)
        return self.given(key, values[key], type)

    async def get_or_load_many(
        self,
        keys: Iterable[str],
        loader: Callable[..., Any],
        *,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The values under ``keys``, the missing ones loaded by one call of ``loader``.

        It takes the list of missing keys, and a :class:`LoadContext` if it wants one, and returns
        a mapping; a key it leaves out is absent from the result. Keys that another call is loading
        are waited for instead. Otherwise as :meth:`get_or_load`.
        """
        wanted = check_keys(keys)
        values = await self._access.load(wanted, Loader(loader, many=True), ttl, tags, type=type)
        return {key: self.given(key, values[key], type) for key in wanted if key in values}

    # -- decorating

    @cached_property
    def cached(self) -> Caching:
        """Decorate a function so that its results live in this region: ``@region.cached``,
        ``@region.cached("user:{user_id}", ttl="10m", tags=("user",))``; see :class:`Caching`.
        """
        from .decorators import Caching

        return Caching(self)

    @cached_property
    def cached_many(self) -> CachingMany:
        """Decorate a function of a list of items that returns a mapping: each item's result has an
        entry of its own: ``@region.cached_many("user:{ids}")``; see :class:`CachingMany`.
        """
        from .decorators import CachingMany

        return CachingMany(self)

    # -- for other faces

    def at_once(self, key: Any, type: Any) -> Any:
        """A hit in process as a caller with a loader gets it; ``MISSING`` also where it is to be
        refreshed soon.
        """
        state = self._state
        if state.pace.horizon and state.soon(key):
            return MISSING
        if self._access.encodes:
            return self.hit(key, type)
        found = self.hits.get(key)
        return found if found is MISSING else self.given(key, found, type)

    def given(self, key: str, stored: object, type: Any) -> Any:
        """A stored value as this caller gets it."""
        value = self._state.left(key, stored)
        wanted = self._type if type is None else type
        if wanted is not None:
            require_type(key, value, wanted)
        return value
