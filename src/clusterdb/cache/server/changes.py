"""The operations on many entries: invalidate, clear."""

from __future__ import annotations

from .asking import Asked
from .documents import ChangedCount, ClearedCount, InvalidateBody, InvalidateTagsBody, Nothing

__all__ = ["clear", "clear_region", "invalidate", "invalidate_tags"]


async def invalidate(asked: Asked) -> ChangedCount:
    """Make entries misses, by key or glob."""
    body, region = await asked.body(InvalidateBody), asked.region
    removed = await region.invalidate_many(body.keys) if body.keys else 0
    for glob in body.matching:
        removed += await region.invalidate_matching(glob, timeout=asked.settings.timeout)
    return ChangedCount(invalidated=removed)


async def invalidate_tags(asked: Asked) -> ChangedCount:
    """Make every entry with one of the tags a miss, in all regions."""
    body = await asked.body(InvalidateTagsBody)
    removed = sum([await asked.cache.invalidate_tag(tag) for tag in body.tags])
    return ChangedCount(invalidated=removed)


async def clear_region(asked: Asked) -> ClearedCount:
    """Remove every entry of a region."""
    await asked.body(Nothing)
    # Of the cache, `clear` means all regions, and its region `default` is the cache itself.
    access = asked.region.access
    return ClearedCount(removed=await access.clear([access.region]))


async def clear(asked: Asked) -> ClearedCount:
    """Remove every entry of all regions."""
    await asked.body(Nothing)
    return ClearedCount(removed=await asked.cache.clear())
