"""Values past their time, given all the same: the one place where that happens and is counted.

A load gives one for four reasons, each with a window of its own:

* ``while_revalidating``: at once, while a load renews it (``stale_while_revalidate``);
* ``past_deadline``: the load is slow (``soft_deadline``, within the region's grace);
* ``on_error``: the loader failed, or ran past its hard deadline (``stale_if_error``);
* ``on_outage``: the backend can't be reached, and this process holds what it last read there
  (``stale_if_error``, counted from when that was surely current).

It is always the backend that is asked, at that moment: it keeps an entry past its expiry for the
region's grace, and forgets it with whatever removes it. So a value that was deleted or invalidated,
or whose tag was, is never given: absence means no. In an outage that holds for what this process
has heard of; what others removed meanwhile is bounded by the window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from ..errors import BackendUnavailable
from ..protocols import Backend
from ..stats import LoadCounters
from ..types import Record
from .flight import LoadPlan

__all__ = ["Reason", "count_served", "expired_at_most", "known_lately", "last_values"]

Reason: TypeAlias = Literal["while_revalidating", "past_deadline", "on_error"]
"""Why a value was given past its time."""


async def expired_at_most(
    backend: Backend, keys: Sequence[str], window: float, plan: LoadPlan
) -> dict[str, Record]:
    """What is under ``keys``: live by now, or expired at most ``window`` seconds ago. None where
    the backend is away. Cost: one round trip a node.
    """
    try:
        records = await backend.peek(plan.region.name, keys, stale=True)
    except BackendUnavailable:
        return {}
    return {
        record.key: record
        for record in records
        if record is not None
        and (record.expires_in is None or record.expires_in >= -window)
        and plan.can_use(record)
    }


def known_lately(backend: Backend, region: str, keys: Sequence[str], window: float) -> list[Record]:
    """What this process last knew of ``keys``, at most ``window`` seconds ago, without I/O."""
    return [
        record
        for record in (backend.last_known(region, keys) if window else ())
        if record is not None
        and record.age_bound <= window
        and (record.expires_in is None or record.expires_in >= -window)
    ]


def last_values(backend: Backend, keys: Sequence[str], plan: LoadPlan) -> dict[str, object]:
    """What a load may give while the backend is away, counted."""
    region = plan.region
    values = {
        record.key: record.value
        for record in known_lately(backend, region.name, keys, region.loads.stale_if_error)
        if plan.can_use(record)
    }
    plan.counters.stale_on_outage += len(values)
    return values


def count_served(counters: LoadCounters, records: Iterable[Record], reason: Reason) -> None:
    """Count those of ``records`` that are past their time."""
    number = sum([record.stale for record in records])
    if reason == "while_revalidating":
        counters.stale_while_revalidating += number
    elif reason == "past_deadline":
        counters.stale_past_deadline += number
    else:
        counters.stale_on_error += number
