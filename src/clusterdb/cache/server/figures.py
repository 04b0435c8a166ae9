"""The operations that observe: statistics, metrics, health, advice, hot keys, where it lives."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from starlette.responses import Response

from clusterdb.cache import Cache
from clusterdb.monitoring import Health

from ..config import CacheCoherence
from .asking import Asked, answer
from .documents import HealthReport, HotKey, HotKeys, NearTier, Overview, RegionLimits
from .exposition import CONTENT_TYPE, exposition

__all__ = [
    "advice",
    "alive",
    "health",
    "hot_keys",
    "metrics",
    "overview",
    "ready",
    "release",
    "statistics",
]


def release() -> str:
    """The version of the package."""
    try:
        return installed("clusterdb-cache")
    except PackageNotFoundError:
        return "unknown"


async def overview(asked: Asked) -> Response:
    """The cache, its regions, and the servers and processes that share it."""
    cache = asked.cache
    await cache.start()
    info = await cache.access.runtime.backend.describe()
    return answer(
        Overview(
            cache=cache.config.name,
            version=release(),
            backend=info.kind,
            read_only=asked.settings.read_only,
            size=info.size,
            near=_near(cache),
            regions=tuple([_limits(cache, name) for name in cache.regions]),
            servers=info.servers,
            processes=info.members,
            problems=info.problems,
        )
    )


def _near(cache: Cache) -> NearTier | None:
    settings = cache.access.state.settings
    if not cache.access.encodes or settings.near is None:
        return None
    coherence = cache.config.coherence or CacheCoherence()
    return NearTier(max_staleness=settings.max_staleness, consistency=coherence.consistency)


def _limits(cache: Cache, name: str) -> RegionLimits:
    settings = cache.region(name).access.state.settings
    return RegionLimits(
        name=name,
        policy=settings.policy,
        ttl=settings.ttl,
        max_items=settings.max_items,
        max_weight=None if settings.max_weight is None else int(settings.max_weight),
    )


async def statistics(asked: Asked) -> Response:
    """What was counted, by region, since this process began."""
    return answer(await asked.cache.get_statistics())


async def metrics(asked: Asked) -> Response:
    """The figures in the text format of Prometheus."""
    text = exposition(await asked.cache.get_metrics())
    return Response(text, media_type=CONTENT_TYPE)


async def health(asked: Asked) -> Response:
    """Each thing that was looked at, with what is wrong."""
    return answer(_report(await asked.cache.get_health()))


def _report(found: Health) -> HealthReport:
    checks = [
        {"name": check.name, "status": check.status, "detail": check.detail}
        for check in found.checks
    ]
    return HealthReport(status=found.status, checks=tuple(checks))


async def alive(_: Asked) -> Response:
    """Whether the process answers."""
    return answer({"status": "ok"})


async def ready(asked: Asked) -> Response:
    """Whether the cache can do its work; 503 where it can't. Without details: anybody may ask."""
    status = (await asked.cache.get_health()).status
    return answer({"status": status}, 503 if status == "failing" else 200)


async def advice(asked: Asked) -> Response:
    """What another size or policy would do for a region."""
    return answer(await asked.cache.advise(asked.region.name))


async def hot_keys(asked: Asked) -> Response:
    """The keys that are asked for most."""
    region = asked.region.name
    found = (await asked.cache.advise(region)).hot_keys
    keys = tuple([HotKey(key=key, share=share) for key, share in found])
    return answer(HotKeys(region=region, keys=keys))
