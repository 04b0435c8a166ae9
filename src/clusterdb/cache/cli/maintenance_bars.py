"""Bars on stderr for the jobs of a run, wherever it runs: they show the state in the backend."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..maintenance import MaintenanceState

__all__ = ["follow"]

Look = Callable[[MaintenanceState], None]


@contextmanager
def follow(request: str, *, shown: bool) -> Iterator[Look | None]:
    """A function that is shown the state, and draws how far the run of ``request`` is; none where
    nobody would see it.
    """
    if not (shown and sys.stderr.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def look(state: MaintenanceState) -> None:
            for run in state.runs.values():
                if run.request != request:
                    continue
                for job in run.jobs:
                    if job.outcome == "waiting":
                        continue
                    if job.job not in tasks:
                        tasks[job.job] = bars.add_task(job.job, total=None)
                    done = job.moved or job.looked
                    bars.update(tasks[job.job], completed=done, total=job.total)

        yield look
