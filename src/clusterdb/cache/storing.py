"""Writing through a region to the storage behind it, whatever its mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec import UNSET, UnsetType

from .access import Access
from .errors import CacheError
from .keys import check_key
from .options import TTL, Consistency, WriteOptions, resolve_set
from .write_modes import no_storage

__all__ = ["Storing"]


class Storing:
    """The operation of a face that names its storage."""

    _access: Access

    async def write_through(
        self,
        key: str,
        value: Any,
        *,
        ttl: TTL | UnsetType = UNSET,
        tags: Iterable[str] | None = None,
        sync: bool | None = None,
        consistency: Consistency | None = None,
        options: WriteOptions | None = None,
    ) -> None:
        """Write ``value`` to the storage behind this region and to the cache, whatever the mode.

        ``sync`` (the default): return after the commit and the cache's write; else when the write
        is queued, with write-behind when it is durable. ``consistency="strong"``: fail where the
        cache can't be told before the commit, by default as the region's level says. Keywords win
        over ``options``. Raises :class:`NoStorage`, :class:`StorageUnavailable`,
        :class:`RowRefused`. One transaction, shared with others, and two round trips.
        """
        base = WriteOptions() if options is None else options
        wanted = WriteOptions(
            sync=base.sync if sync is None else sync,
            consistency=base.consistency if consistency is None else consistency,
        )
        access, level = self._access, wanted.consistency
        runtime = access.runtime
        resolved = resolve_set(None, ttl, None, None, None, tags)
        put = access.put(check_key(key), value, resolved)
        await runtime.ready()
        if runtime.waiting:
            await runtime.waiting.settle(access.region, [put.key])
        if runtime.stored is None:
            raise no_storage(access.region)
        strict = None if level is None else level == "strong"
        [outcome] = await runtime.stored.write_through(
            access.region, [put], strict=strict, wait=wanted.sync
        )
        if isinstance(outcome, CacheError):
            raise outcome
        access.made(put, outcome)
