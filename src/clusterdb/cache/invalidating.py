"""Removing cached copies: by key, by pattern, by tag.

What is invalidated is a miss for whoever asks later, and a load that was running meanwhile stores
nothing: it may have read its origin before the change.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from .access import Access
from .keys import check_key, check_keys
from .options import Pattern, PatternOptions, resolve_tags
from .scanning import invalidate_matching, resolve_pattern

__all__ = ["Invalidating"]


class Invalidating:
    """The part of a region that invalidates."""

    _access: Access

    async def invalidate(self, key: str) -> bool:
        """Remove the cached copy under ``key``, and let a running load of it store nothing;
        whether a copy was there. One round trip.

        With the strategies ``deferred`` and ``lazy`` the key is a miss for this process at once,
        and is removed later: no round trip, and True.
        """
        return await self._access.invalidate([check_key(key)]) > 0

    async def invalidate_many(self, keys: Iterable[str]) -> int:
        """Invalidate all ``keys``; of how many a copy was there. Raises :class:`BatchError` when
        some failed. One round trip a node. With ``deferred`` and ``lazy`` as in :meth:`invalidate`.
        """
        return await self._access.invalidate(check_keys(keys))

    async def invalidate_matching(
        self,
        pattern: str | Pattern,
        *,
        batch_size: int | None = None,
        timeout: float | str | timedelta | None = None,
        options: PatternOptions | None = None,
    ) -> int:
        """Remove the cached copies whose keys match a glob, and let the loads of such keys that are
        running store nothing; how many copies there were. O(n) in the keys of the region: where it
        can be known beforehand what belongs together, a tag does it in O(1).

        A key that is there from start to end is removed; one that comes meanwhile may be. Past
        ``timeout`` seconds in all :class:`ScanTimeout` is raised, and what was removed by then
        stays so. Two round trips for ``batch_size`` keys a node.
        """
        glob, size, seconds = resolve_pattern(pattern, batch_size, timeout, options)
        return await invalidate_matching(self._access, glob, size, seconds)

    async def invalidate_tag(self, tag: str) -> int:
        """Make every entry with ``tag`` a miss, in all regions of the cache, at once and whatever
        their number, which is returned where the backend knows it. One round trip.
        """
        [tag] = resolve_tags([tag])
        return await self._access.invalidate_tag(tag)
