"""What is to be run, and when it is due next. Pure; the time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..schedule import Schedule
from .job import Job

__all__ = ["Plan", "due_next"]


class Plan(NamedTuple):
    """Jobs that run one after the other. Without a ``schedule`` they run when asked for. A run ends
    after ``time_budget`` seconds; ``rate`` is how many keys a second its jobs look at.
    """

    name: str
    jobs: Sequence[Job]
    schedule: Schedule | None = None
    time_budget: float | None = None
    rate: int = 2_000

    def job(self, name: str) -> Job | None:
        """The job of that name."""
        return next((job for job in self.jobs if job.name == name), None)


def due_next(schedule: Schedule, covered: float, cache: str) -> tuple[float, float]:
    """The first due time after those that are ``covered``, and when its run starts, which is a
    little later where the schedule has a jitter. Times that passed while nobody was there are one.
    """
    due = schedule.after(covered)
    return due, due + schedule.delay(due, cache)
