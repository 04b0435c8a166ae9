"""What the servers and regions of a cache look like to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ...protocols import BackendInfo, RegionInfo, ServerInfo
from ...settings import RegionSettings, kept_order_problems
from ...stats import Counters
from .health import look_around
from .limits import Limits
from .link import Link
from .membership import Membership
from .nearby import Nearby

__all__ = ["described"]


async def described(
    kind: str,
    link: Link,
    membership: Membership,
    limits: Limits,
    nearby: Nearby,
    settings: Mapping[str, RegionSettings],
    total: Callable[[str], Counters],
    problems: Callable[[Sequence[ServerInfo]], Iterable[str]],
) -> BackendInfo:
    """See :meth:`Backend.describe`. ``total`` is what this process counted of a region,
    ``problems`` what is wrong, by the servers as they are.
    """
    servers, members = await look_around(link, membership)
    regions = {}
    for name in settings:
        items, weight = None, None
        if name in limits:
            items, weight = await limits.totals(name)
        regions[name] = RegionInfo(items, weight, total(name))
    return BackendInfo(
        kind=kind,
        tags=0,
        regions=regions,
        problems=(*problems(servers), *kept_order_problems(kind, settings.values())),
        members=members,
        servers=nearby.look(servers),
        near_age=nearby.tier.age(link.now()),
    )
