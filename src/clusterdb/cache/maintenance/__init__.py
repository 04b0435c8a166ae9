"""Maintenance: jobs that one process of all that share a backend runs, now and then.

:mod:`.scheduler` decides who and when, :mod:`.running` runs jobs (:mod:`.job`), :mod:`.state` is
what all processes share. The jobs themselves ask a backend for what it can do (``upkeep``).
"""

from __future__ import annotations

from .job import Job, JobContext
from .plan import Plan
from .scheduler import Maintenance
from .state import Leader, MaintenanceRun, MaintenanceState, Pause, Progress, Wanted
from .store import StateStore

__all__ = [
    "Job",
    "JobContext",
    "Leader",
    "Maintenance",
    "MaintenanceRun",
    "MaintenanceState",
    "Pause",
    "Plan",
    "Progress",
    "StateStore",
    "Wanted",
]
