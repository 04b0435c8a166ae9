"""What a cache file looks like to a person: figures and problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...clock import Clock
from ...errors import BackendUnavailable
from ...near import NearTier
from ...protocols import BackendInfo, RegionInfo
from ...settings import RegionSettings, kept_order_problems
from ...stats import Counters
from .attachment import Attachment

__all__ = ["described"]


async def described(
    kind: str,
    attachment: Attachment,
    settings: Mapping[str, RegionSettings],
    near: NearTier,
    clock: Clock,
    total: Callable[[str], Counters],
) -> BackendInfo:
    """See :meth:`Backend.describe`. ``total`` is what this process counted of a region."""
    attached = await attachment.get()
    try:
        await attached.settle()
    except BackendUnavailable as error:
        attached.problem = str(error)
    regions: dict[str, RegionInfo] = {}
    found = attached.reader.regions()
    for name in settings:
        items, weight, totals = found[name]
        regions[name] = RegionInfo(items, weight, total(name), totals)
    members = attached.reader.members(attached.stored_now(), clock.wall())
    return BackendInfo(
        kind=kind,
        tags=0,
        regions=regions,
        size=attachment.file.size(),
        members=tuple([member for _, _, member in members]),
        problems=(
            *([attached.problem] if attached.problem else []),
            *attachment.notes.values(),
            *kept_order_problems(kind, settings.values()),
        ),
        near_age=near.age(clock.now()),
    )
