"""Health reports: checks, the worst of them, and what they mean for an orchestrator."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["Health", "HealthCheck", "HealthStatus"]

HealthStatus: TypeAlias = Literal["ok", "degraded", "failing"]

_ORDER: tuple[HealthStatus, ...] = ("ok", "degraded", "failing")


class HealthCheck(msgspec.Struct, frozen=True):
    """One thing that was looked at; ``detail`` says what is wrong, ``remedy`` what to do, where the
    detail does not say it.
    """

    name: str
    status: HealthStatus
    detail: str = ""
    remedy: str = ""


class Health(msgspec.Struct, frozen=True):
    """All checks of one component. The check called ``cache`` is of the component itself."""

    checks: tuple[HealthCheck, ...]

    @property
    def status(self) -> HealthStatus:
        """The worst status among the checks."""
        return max((check.status for check in self.checks), key=_ORDER.index, default="ok")

    @property
    def live(self) -> bool:
        """Whether it goes on, or comes back, by itself: a new start would mend nothing."""
        own = [check for check in self.checks if check.name == "cache"]
        return all(check.status != "failing" for check in own)

    @property
    def ready(self) -> bool:
        """Whether it can answer now."""
        return self.status != "failing"

    @property
    def wrong(self) -> tuple[HealthCheck, ...]:
        """The checks that are not ``ok``, the worst first."""
        found = [check for check in self.checks if check.status != "ok"]
        return tuple(sorted(found, key=lambda check: -_ORDER.index(check.status)))
