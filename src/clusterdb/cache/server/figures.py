"""The operations that observe: statistics, metrics, health, alerts, advice, hot keys."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.responses import Response

from clusterdb.monitoring.metrics import selected
from clusterdb.monitoring.text_format import CONTENT_TYPE, text_format

from ..advice import Advice
from ..config import Redis
from ..factory import make_reads
from ..overview import look_over
from ..stats import CacheStats
from ..tally import HotKeys, Tally, count_reads, sampled
from .asking import Asked, answer
from .documents import AlertReport, HealthReport, MetricList, ServedOverview
from .problems import Refused

__all__ = [
    "LONGEST_COUNT",
    "MOST_KEYS",
    "advice",
    "alerts",
    "alive",
    "health",
    "hot_keys",
    "metrics",
    "metrics_text",
    "overview",
    "ready",
    "statistics",
]

LONGEST_COUNT: Final = 60
"""Seconds for which reads are counted at most."""

MOST_KEYS: Final = 100
_MARGIN: Final = 10


async def overview(asked: Asked) -> ServedOverview:
    """The cache, its regions, and the servers and processes that share it."""
    seen = await look_over(asked.cache)
    return ServedOverview(**msgspec.structs.asdict(seen), read_only=asked.settings.read_only)


async def statistics(asked: Asked) -> CacheStats:
    """What was counted, by region, since this process began."""
    return await asked.cache.get_statistics()


async def metrics(asked: Asked) -> MetricList:
    """The figures as samples: those that are named, or all."""
    found = selected(await asked.cache.get_metrics(), asked.texts("name"))
    return MetricList(metrics=tuple(found))


async def metrics_text(asked: Asked) -> Response:
    """The figures in the text format of Prometheus."""
    text = text_format(await asked.cache.get_metrics())
    return Response(text, media_type=CONTENT_TYPE)


async def health(asked: Asked) -> HealthReport:
    """Each thing that was looked at, with what is wrong and what to do."""
    found = await asked.cache.get_health()
    return HealthReport(
        status=found.status, live=found.live, ready=found.ready, checks=found.checks
    )


async def alerts(asked: Asked) -> AlertReport:
    """The alerts that fire, and those that are over."""
    sampling = asked.cache.access.runtime.sampling
    return AlertReport(firing=tuple(sampling.alerts), over=tuple(sampling.past_alerts))


async def alive(_: Asked) -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


async def ready(asked: Asked) -> Response:
    """Whether the cache can do its work; 503 where it can't. Without details: anybody may ask."""
    found = await asked.cache.get_health()
    return answer({"status": found.status}, 200 if found.ready else 503)


async def advice(asked: Asked) -> Advice:
    """What another size or policy would do for a region."""
    advising = asked.cache.advise(asked.region.name)
    found = await asked.lasting.advice.take(advising, asked.request.receive)
    if found is None:
        raise Refused("unavailable", "the server ends, or its client has gone")
    return found


async def hot_keys(asked: Asked) -> HotKeys:
    """The keys that are read most: of the sample of this process, or counted on the servers."""
    region, seconds = asked.region.name, asked.text("seconds", "")
    count = asked.number("count", 10, MOST_KEYS)
    if not seconds:
        return sampled(await advice(asked), count)
    lasting = asked.number("seconds", 1, LONGEST_COUNT)
    if not isinstance(asked.cache.config.backend, Redis):
        raise Refused("not-supported", "reads are counted on Redis only: leave out seconds")
    reads = make_reads(asked.cache.config, region, asked.cache.access.runtime.clock)
    tally = Tally()
    asked.may_take(lasting + _MARGIN)
    counting = count_reads(reads, lasting, tally)
    await asked.lasting.counts.take(counting, asked.request.receive)
    return tally.hot_keys(region, lasting, count)
