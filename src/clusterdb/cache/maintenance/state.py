"""What maintenance keeps in the backend: one document, shared by all processes. Pure.

It says who leads, what is paused, which due times are taken, which runs are under way and how far,
and what the last runs did. Every change is made of the document as it was read, and stored only if
nobody changed it meanwhile (:mod:`.store`), so that a change by a leader that was replaced without
noticing it, as after a long stop, can't be stored: that fences it.

A run that its process did not end is still in ``runs``; the next leader goes on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

from msgspec import Struct, structs

from ..errors import CacheError

__all__ = [
    "HISTORY",
    "Leader",
    "LostLease",
    "MaintenanceRun",
    "MaintenanceState",
    "Outcome",
    "Pause",
    "Progress",
    "Wanted",
]

V = TypeVar("V")

HISTORY: Final = 20
"""So many runs are remembered: they are rewritten with each sign of life."""

_FAR: Final = 86_400.0

Outcome: TypeAlias = Literal["waiting", "running", "done", "failed", "out of time"]

_WORST_FIRST: Final[tuple[Outcome, ...]] = ("failed", "out of time", "running", "waiting")


class LostLease(Exception):
    """Another process leads now: what was to be stored is not ours to say any more."""


class Leader(Struct, frozen=True):
    """Who runs the tasks. ``beat`` grows with each sign of life, ``token`` is of this term only."""

    token: str
    name: str
    beat: int = 0


class Pause(Struct, frozen=True):
    """Nothing runs since then (seconds since the Unix epoch)."""

    by: str
    since: float


class Wanted(Struct, frozen=True):
    """A run that somebody asked for: of these jobs, or of all; ``number`` tells requests apart.
    ``options`` are settings of the jobs, for this run only.
    """

    number: str
    by: str
    jobs: tuple[str, ...] = ()
    options: dict[str, float] = {}


class Progress(Struct, frozen=True, kw_only=True):
    """What a job of a run has done. ``freed`` is bytes; ``total`` how many there are to look at,
    where that is known; ``cursor`` is where it goes on, empty at the beginning.
    """

    job: str
    outcome: Outcome = "waiting"
    looked: int = 0
    removed: int = 0
    moved: int = 0
    freed: int = 0
    total: int | None = None
    seconds: float = 0.0
    cursor: str = ""
    notes: tuple[str, ...] = ()
    error: str = ""


class MaintenanceRun(Struct, frozen=True, kw_only=True):
    """One run of a plan. Times are seconds since the Unix epoch; ``due`` is ``None`` for one that
    was asked for, as ``request``; ``asked``: its jobs were named. ``resumed``: how often it was
    taken up after an interruption.
    """

    plan: str
    due: float | None
    began: float
    by: str
    jobs: tuple[Progress, ...]
    request: str = ""
    asked: bool = False
    options: dict[str, float] = {}
    resumed: int = 0
    ended: float | None = None

    @property
    def outcome(self) -> Outcome:
        """The worst of its jobs' outcomes."""
        found = {job.outcome for job in self.jobs}
        return next((outcome for outcome in _WORST_FIRST if outcome in found), "done")

    def with_job(self, job: Progress) -> MaintenanceRun:
        """The run, with what one of its jobs has done."""
        jobs = [job if each.job == job.job else each for each in self.jobs]
        return structs.replace(self, jobs=tuple(jobs))


class MaintenanceState(Struct, frozen=True, kw_only=True):
    """The document. ``covered`` is up to when the due times of a plan are taken, ``left`` holds the
    cursors of jobs whose last run did not come to the end. What a leader stores raises
    :class:`LostLease` where ``token`` is not that of the present one.
    """

    format: int = 1
    leader: Leader | None = None
    pause: Pause | None = None
    covered: dict[str, float] = {}
    wanted: dict[str, Wanted] = {}
    runs: dict[str, MaintenanceRun] = {}
    left: dict[str, str] = {}
    history: tuple[MaintenanceRun, ...] = ()

    # -- who leads

    def led_by(self, leader: Leader) -> MaintenanceState:
        """Once ``leader`` has taken over."""
        return structs.replace(self, leader=leader)

    def renewed(self, token: str) -> MaintenanceState:
        """Once the leader has given a sign of life."""
        leader = self._led(token)
        return self.led_by(structs.replace(leader, beat=leader.beat + 1))

    def resigned(self, token: str) -> MaintenanceState:
        """Once the leader of this token is gone; nothing to do where it was replaced."""
        ours = self.leader is not None and self.leader.token == token
        return structs.replace(self, leader=None) if ours else self

    def _led(self, token: str) -> Leader:
        if self.leader is None or self.leader.token != token:
            raise LostLease
        return self.leader

    # -- runs

    def anchor(self, plan: str, now: float) -> float | None:
        """From when on due times of a plan count, where that is to be stored: one that is new, or
        one whose mark lies so far ahead that a clock was wrong. Else ``None``.
        """
        covered = self.covered.get(plan)
        return now if covered is None or covered > now + _FAR else None

    def anchored(self, token: str, plan: str, moment: float) -> MaintenanceState:
        """Once due times of a plan count from ``moment`` on."""
        self._led(token)
        return structs.replace(self, covered={**self.covered, plan: moment})

    def begun(
        self, token: str, plan: str, jobs: Sequence[str], due: float | None, now: float
    ) -> MaintenanceState:
        """With a new run of a plan: that of ``due``, which is taken then, or the one that was asked
        for.
        """
        leader = self._led(token)
        request = self.wanted[plan] if due is None else Wanted("", "")
        run = MaintenanceRun(
            plan=plan,
            due=due,
            began=now,
            by=leader.name,
            request=request.number,
            asked=bool(request.jobs),
            options=request.options,
            jobs=tuple(
                [
                    Progress(job=job, cursor=self.left.get(f"{plan}.{job}", ""))
                    for job in request.jobs or jobs
                ]
            ),
        )
        covered = self.covered if due is None else {**self.covered, plan: max(due, now)}
        wanted = self.wanted if due is not None else _without(self.wanted, plan)
        runs = {**self.runs, plan: run}
        return structs.replace(self, covered=covered, wanted=wanted, runs=runs)

    def taken_up(self, token: str, plan: str) -> MaintenanceState:
        """Once an interrupted run is gone on with."""
        leader, run = self._led(token), self.runs[plan]
        again = structs.replace(run, by=leader.name, resumed=run.resumed + 1)
        return structs.replace(self, runs={**self.runs, plan: again})

    def progressed(self, token: str, run: MaintenanceRun) -> MaintenanceState:
        """With what a run has done so far."""
        self._led(token)
        return structs.replace(self, runs={**self.runs, run.plan: run})

    def ended(self, token: str, run: MaintenanceRun, now: float) -> MaintenanceState:
        """With a run in the history."""
        self._led(token)
        done = {f"{run.plan}.{job.job}": job.cursor for job in run.jobs}
        left = {name: cursor for name, cursor in {**self.left, **done}.items() if cursor}
        history = (*self.history, structs.replace(run, ended=now))[-HISTORY:]
        runs = _without(self.runs, run.plan)
        return structs.replace(self, runs=runs, left=left, history=history)

    # -- what people ask for

    def paused(self, by: str, now: float) -> MaintenanceState:
        """In which nothing runs."""
        return self if self.pause else structs.replace(self, pause=Pause(by, now))

    def resumed(self) -> MaintenanceState:
        """In which tasks run again."""
        return structs.replace(self, pause=None)

    def asked(self, plan: str, request: Wanted) -> MaintenanceState:
        """In which a run is asked for; one that is asked for already, and is the same, stands for
        both. Raises :class:`CacheError` where another has not begun.
        """
        before = self.wanted.get(plan)
        if before is None:
            return structs.replace(self, wanted={**self.wanted, plan: request})
        if (before.jobs, before.options) != (request.jobs, request.options):
            raise CacheError(
                f"another run was asked for by {before.by} and has not begun: ask again after it"
            )
        return self

    @property
    def requests(self) -> set[str]:
        """The requests that have not come to their end."""
        return {
            *[each.number for each in self.wanted.values()],
            *[run.request for run in self.runs.values()],
        }


def _without(mapping: Mapping[str, V], key: str) -> dict[str, V]:
    return {name: value for name, value in mapping.items() if name != key}
