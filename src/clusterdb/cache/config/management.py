"""Maintenance: what runs by itself, and when."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from ..errors import InvalidArgument
from .cron import check_schedule
from .quantities import Duration, Items, preset
from .secrets import shown
from .settings import Settings

__all__ = [
    "Cleanup",
    "Compact",
    "MaintenanceConfig",
    "MaintenanceTask",
    "Rebalance",
    "Schedule",
]


def _schedule(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f'expected a schedule such as "0 * * * *", got {shown(value)}')
    check_schedule(value)
    return str(value)


Schedule = Annotated[
    str, Meta(extra={"read": _schedule}, extra_json_schema={"examples": ["0 3 * * *"]})
]
"""A cron schedule of five fields."""

Threshold = Annotated[float, Meta(gt=0, le=1)]


class Cleanup(Settings, frozen=True, kw_only=True, tag_field="type", tag="cleanup"):
    """Remove what expired, or was not used, longer ago than `older_than`."""

    older_than: Duration


class Compact(Settings, frozen=True, kw_only=True, tag_field="type", tag="compact"):
    """Give unused space back once its share is above `threshold`."""

    threshold: Threshold = 0.3


class Rebalance(Settings, frozen=True, kw_only=True, tag_field="type", tag="rebalance"):
    """Spread keys anew once servers differ by more than `threshold`."""

    threshold: Threshold = 0.2


MaintenanceTask: TypeAlias = Cleanup | Compact | Rebalance


class MaintenanceConfig(Settings, frozen=True, kw_only=True):
    """Tasks that run one after the other on a schedule."""

    schedule: Schedule
    tasks: Items[MaintenanceTask] = preset(())
