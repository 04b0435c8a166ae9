"""A warm start: values are fetched before anybody asks for them.

A key is warmed by reading it: what a server, a file or a storage has is kept near by that, or
cached, and what nobody has is loaded by a loader, if there is one. Keys go in batches, several at
a time, and no faster than a rate, so that a start is no stampede on what stands behind.

Which keys? Those the caller names, or those that were hottest in the last run: a table knows its
entries in the order in which it would evict them, and the last ones of that order are written to a
small file when the cache is closed. Only keys are kept there: a value may have changed since, and
is read where the truth is. Rejected: counts of reads, which tell of the past and not of what would
be kept; writing while the cache runs, for which nobody has asked.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from .access import Access
from .backing import backups_of
from .backup import Throttle
from .config import WarmStart
from .errors import InvalidArgument, TypeMismatch, TypeRequired
from .keys import check_key, shown
from .loading import Loader
from .options import TTL
from .runtime import Runtime
from .table import hottest

__all__ = ["Turns", "Warmed", "Warming", "hot_keys", "keep_hot_keys"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_BATCH: Final = 100
_SHARES: Final = 10
"""A batch is at most a tenth of what goes in a second."""


class Warmed(msgspec.Struct, frozen=True, kw_only=True):
    """What a warm start has come to: how many keys have their values here now (``found``), of how
    many nobody has one (``missing``), and how many can't be read as the type asked for
    (``failed``).
    """

    found: int = 0
    missing: int = 0
    failed: int = 0

    def __add__(self, other: Warmed) -> Warmed:
        return Warmed(
            found=self.found + other.found,
            missing=self.missing + other.missing,
            failed=self.failed + other.failed,
        )


class Turns:
    """When the next keys may go, at ``rate`` a second; ``None``: at once."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    def wait(self, count: int, now: float) -> float:
        """Let ``count`` keys go; in how many seconds."""
        if self._rate is None:
            return 0.0
        begins = max(now, self._free_at)
        self._free_at = begins + count / self._rate
        return begins - now


class Warming:
    """The operation of a face that fetches ahead of its callers."""

    _access: Access

    async def warm(
        self,
        keys: Iterable[str] | AsyncIterable[str] | None = None,
        *,
        loader: Callable[..., Any] | None = None,
        type: Any = None,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] = (),
        from_backup: str | None = None,
        rate: float | None = None,
        concurrency: int = 4,
        progress: Callable[[Warmed], None] | None = None,
    ) -> Warmed:
        """Fetch the values of ``keys``, so that later reads find them near: what was found, by
        count. Without ``keys``, those that were hottest in the last run, where ``warm_start`` names
        a file.

        ``keys`` may be an async iterator, such as ``cache.scan("user:*")``. What nobody has is
        loaded by ``loader``, with ``ttl`` and ``tags``, as in :meth:`get_or_load_many`; a backend
        in this process has nothing to read without one, but from a storage. ``type``: see
        :meth:`get`. ``from_backup`` takes what is not there from that backup instead (``latest``:
        the last good one), all of this region. At most ``rate`` keys a second, in batches of up to
        100, ``concurrency`` of them at a time; ``progress`` is told after each how far it is.
        Raises :class:`BackendUnavailable`, and :class:`TypeRequired`. One round trip a batch and
        node.
        """
        access = self._access
        if from_backup is not None:
            named = keys is not None or loader is not None
            return await _restored(access, from_backup, rate, progress, named=named)
        _check(access, rate, concurrency, loader)
        if keys is None:
            keys = await asyncio.to_thread(hot_keys, _kept(access.runtime), access.region)
        size = _BATCH if rate is None else max(1, min(_BATCH, int(rate / _SHARES)))
        loading = None if loader is None else Loader(loader, many=True)

        async def fetch(batch: list[str]) -> Warmed:
            if loading is not None:
                return _counted(batch, await access.load(batch, loading, ttl, tags, type=type))
            return await _read(access, batch, type)

        warmup = _Warmup(_batches(keys, size), fetch, Turns(rate), progress)
        return await warmup.run(concurrency)


class _Warmup:
    """One warm start: workers that take turns at the batches."""

    def __init__(
        self,
        batches: AsyncIterator[list[str]],
        fetch: Callable[[list[str]], Awaitable[Warmed]],
        turns: Turns,
        progress: Callable[[Warmed], None] | None,
    ) -> None:
        self._batches = batches
        self._fetch = fetch
        self._turns = turns
        self._progress = progress
        self._next = asyncio.Lock()
        self._warmed = Warmed()

    async def run(self, concurrency: int) -> Warmed:
        workers = [
            asyncio.create_task(self._work(), name="clusterdb-cache: warm")
            for _ in range(concurrency)
        ]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
        return self._warmed

    async def _work(self) -> None:
        while True:
            async with self._next:
                batch = await anext(self._batches, None)
                if batch is None:
                    return
                now = asyncio.get_running_loop().time()
                await asyncio.sleep(self._turns.wait(len(batch), now))
            came = await self._fetch(batch)  # a sum over an await would lose what others add
            self._warmed += came
            if self._progress is not None:
                self._progress(self._warmed)


async def _restored(
    access: Access,
    backup: str,
    rate: float | None,
    progress: Callable[[Warmed], None] | None,
    *,
    named: bool,
) -> Warmed:
    """Take from a backup what a region lacks. ``missing`` is what has expired since."""
    _check_rate(rate)
    if named:
        raise InvalidArgument(
            "from_backup takes all of a region's entries as they are: leave keys and loader out"
        )
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(Warmed(found=done))

    report = await backups_of(access.runtime).restore(
        None if backup == "latest" else backup,
        regions=[access.region],
        overwrite="never",
        throttle=Throttle(rate, None),
        progress=tell,
    )
    return Warmed(found=report.restored + report.kept, missing=report.expired, failed=report.failed)


async def _batches(keys: Iterable[str] | AsyncIterable[str], size: int) -> AsyncIterator[list[str]]:
    """The keys, each once in its batch."""
    batch: dict[str, None] = {}
    if isinstance(keys, AsyncIterable):
        async for key in keys:
            batch[check_key(key)] = None
            if len(batch) == size:
                yield list(batch)
                batch.clear()
    else:
        for key in keys:
            batch[check_key(key)] = None
            if len(batch) == size:
                yield list(batch)
                batch.clear()
    if batch:
        yield list(batch)


async def _read(access: Access, batch: list[str], type: Any) -> Warmed:
    """Read a batch; key by key where one of it is of another type."""
    try:
        return _counted(batch, await access.read(batch, None, type, brief=True))
    except TypeRequired:
        raise
    except TypeMismatch:
        if len(batch) == 1:
            return Warmed(failed=1)
    warmed = Warmed()
    for key in batch:
        warmed += await _read(access, [key], type)
    return warmed


def _counted(batch: list[str], found: Mapping[str, object]) -> Warmed:
    return Warmed(found=len(found), missing=len(batch) - len(found))


def _check(
    access: Access, rate: float | None, concurrency: int, loader: Callable[..., Any] | None
) -> None:
    _check_rate(rate)
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidArgument(f"concurrency is an int from 1, not {shown(concurrency)}")
    if loader is None and not access.encodes:
        raise InvalidArgument(
            f"region {access.region!r} is in this process, and has no other place to read from: "
            f"give warm() a loader, or Memory(persist=...) to keep the values themselves"
        )


def _check_rate(rate: float | None) -> None:
    if rate is not None and not rate > 0:
        raise InvalidArgument(f"rate is keys a second, above 0, not {shown(rate)}")


# -- the keys of the last run


def _kept(runtime: Runtime) -> WarmStart:
    if runtime.config.warm_start is None:
        raise InvalidArgument(
            "which keys? Name them, or have the hottest kept from run to run: "
            "CacheConfig(warm_start=WarmStart(path=...))"
        )
    return runtime.config.warm_start


def hot_keys(kept: WarmStart, region: str) -> list[str]:
    """The hottest keys of a region in the last run, the hottest first; none where there is no file
    yet, or nobody can read it, which is logged. For a thread.
    """
    try:
        data = Path(kept.path).expanduser().read_bytes()
        found = msgspec.json.decode(data, type=dict[str, list[str]])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        _LOG.warning("hot keys of the last run can't be read from %r: %s", kept.path, error)
        return []
    return found.get(region, [])[: kept.max_keys]


async def keep_hot_keys(runtime: Runtime) -> None:
    """Write the hottest keys of each region that keeps something in this process, at its end."""
    kept = runtime.config.warm_start
    if kept is None or not runtime.running:
        return
    now = runtime.clock.now()
    found: dict[str, list[str]] = {}
    for name in runtime.states:
        stored = runtime.stored
        table = runtime.backend.table(name) if stored is None else stored.copies(name)
        if table is not None and len(table):
            found[name] = hottest(table, now, kept.max_keys)
    if found:
        try:
            await asyncio.to_thread(_write, Path(kept.path), msgspec.json.encode(found))
        except OSError as error:
            _LOG.warning("hot keys can't be written to %r: %s", kept.path, error)


def _write(path: Path, data: bytes) -> None:
    """Whole, beside its place, and then in it."""
    path = path.expanduser()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
        file.write(data)
    beside.replace(path)
