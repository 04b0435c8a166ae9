"""Health reports: checks, and the worst of them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["Health", "HealthCheck", "HealthStatus"]

HealthStatus: TypeAlias = Literal["ok", "degraded", "failing"]

_ORDER: tuple[HealthStatus, ...] = ("ok", "degraded", "failing")


class HealthCheck(msgspec.Struct, frozen=True):
    """One thing that was looked at; ``detail`` says what is wrong and what to do."""

    name: str
    status: HealthStatus
    detail: str = ""


class Health(msgspec.Struct, frozen=True):
    """All checks of one component."""

    checks: tuple[HealthCheck, ...]

    @property
    def status(self) -> HealthStatus:
        """The worst status among the checks."""
        return max((check.status for check in self.checks), key=_ORDER.index, default="ok")
