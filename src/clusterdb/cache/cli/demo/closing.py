"""Chapter: what the cache counted of all this."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rich.console import RenderableType

from clusterdb.cache import CacheStats, RegionStats

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration, percent
from .stage import Stage

__all__ = ["CHAPTER", "measure"]

_COUNTED: Final = (
    "items", "hits", "misses", "sets", "deletes", "invalidations", "evictions", "expirations",
    "loads", "load_failures", "joined_loads", "lost_fills",
)  # fmt: skip


async def measure(stage: Stage) -> CacheStats:
    """Ask the cache."""
    return await stage.cache.get_statistics()


def show(found: CacheStats) -> Iterable[RenderableType]:
    """A column a region that was used, and their sum."""
    used = [region for region in found.regions.values() if region.sets or region.misses]
    regions: list[RegionStats] = [*used, found.total]
    table = plain_table("", *[region.name for region in regions])
    for field in _COUNTED:
        values = [getattr(region, field) for region in regions]
        table.add_row(field.replace("_", " "), *[count(value) for value in values])
    table.add_row("hit ratio", *[percent(region.hit_ratio) for region in regions])
    table.add_row("time in loaders", *[duration(region.load_seconds) for region in regions])
    yield table
    yield (
        f"Backend {found.backend}, {count(found.tags)} tags in use, open for "
        f"{duration(found.uptime)}. An entry whose tag ended answers no more; it is counted among "
        "the items until a sweep finds it."
    )


CHAPTER = Chapter(
    title="Statistics",
    about=(
        "get_statistics() of the cache that chapters 1 and 3 to 6 shared, by region. Chapter 2 "
        "built one cache for each replay."
    ),
    measure=measure,
    show=show,
)
