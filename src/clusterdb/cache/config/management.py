"""Maintenance: what runs by itself, and when."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from ..errors import InvalidArgument
from .cron import check_schedule
from .quantities import Count, Duration, Items, OptionalDuration, preset
from .secrets import shown
from .settings import Settings, require

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

    def _check(self) -> None:
        """Check that not everything goes."""
        require(self.older_than > 0, "older_than", "must be above 0 seconds")


class Compact(Settings, frozen=True, kw_only=True, tag_field="type", tag="compact"):
    """Give unused space back once its share is above `threshold`."""

    threshold: Threshold = 0.3


class Rebalance(Settings, frozen=True, kw_only=True, tag_field="type", tag="rebalance"):
    """Spread keys anew once servers differ by more than `threshold`."""

    threshold: Threshold = 0.2


MaintenanceTask: TypeAlias = Cleanup | Compact | Rebalance


class MaintenanceConfig(Settings, frozen=True, kw_only=True):
    """Tasks that run one after the other on a schedule, in one process of all that share a backend.

    A run starts up to `jitter` late and ends after `time_budget`; what is left is for the next.
    Tasks look at `rate_limit` keys a second at most. A process that was not heard of for `lease`
    runs them no more.
    """

    schedule: Schedule
    tasks: Items[MaintenanceTask] = preset(())
    timezone: str = "UTC"
    jitter: Duration = preset(0.0)
    time_budget: OptionalDuration = preset(1800.0)
    rate_limit: Count = 2_000
    lease: Duration = preset(15.0)

    def _check(self) -> None:
        """Check that a run may last, and a lease can be renewed."""
        require(self.jitter >= 0, "jitter", "must be 0 seconds or more")
        budget = self.time_budget
        require(budget is None or budget > 0, "time_budget", "must be above 0 seconds, or null")
        require(self.lease >= 1, "lease", "must be at least 1 second")
