"""``cache maintenance``: run its tasks, look at them, stop them, and move keys between servers."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
import typer

from clusterdb.cache import Cache, CacheConfig, MaintenanceConfig, NotSupported, Rebalance

from ..maintaining import MAINTENANCE_PLAN
from ..maintenance import Maintenance, MaintenanceRun, MaintenanceState, Progress
from ..maintenance.scheduler import Duties
from ..upkeep import Balance
from .maintenance_bars import follow
from .output import make_console, plain_table, print_json, print_line, safe
from .target import AsJson, ConfigFile, Url, make_cache

__all__ = ["maintenance"]

T = TypeVar("T")

maintenance = typer.Typer(
    name="maintenance", help="What keeps a cache healthy: tasks now and then.", no_args_is_help=True
)

_NEVER: Final = "0 0 1 1 *"
_FAILED: Final = 4


@maintenance.command()
def run(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="cleanup, compact; all unless named.")
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Run the configured tasks now, in the program that leads, else here; wait for the end.

    Example: cache maintenance run cleanup --config cache.yaml
    """
    done = _on_cache(
        config, url, _configured, lambda cache: _run(cache, tasks or [], {}, json=json), "asked"
    )
    _show_run(done, json=json)


@maintenance.command()
def status(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Show who runs the tasks, what runs now and how far it is, and what is paused."""
    state = _on_cache(config, url, _any, _state)
    if json:
        document = msgspec.to_builtins(state)
        del document["history"]
        print_json(document)
        return
    leader = "nobody" if state.leader is None else state.leader.name
    print_line(f"leader: {safe(leader)}")
    if state.pause is not None:
        print_line(f"paused: by {safe(state.pause.by)}, since {_time(state.pause.since)}")
    for each in state.runs.values():
        print_line(f"{each.plan}: runs since {_time(each.began)} on {safe(each.by)}")
        _show_jobs(each)
    if not state.runs:
        print_line("nothing runs")
    if state.history:
        last = state.history[-1]
        print_line(f"last run: {_time(last.began)}, {last.outcome}")


@maintenance.command()
def history(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Show the last runs: when, what they did, and how they ended."""
    runs = _on_cache(config, url, _any, _state).history
    if json:
        print_json({"runs": msgspec.to_builtins(runs)})
        return
    if not runs:
        print_line("there were no runs")
        return
    table = plain_table(
        "began", "job", "outcome", "looked", "removed", "moved", "freed", "seconds", texts=3
    )
    for each in runs:
        for job in each.jobs:
            figures = [f"{n:,}" for n in (job.looked, job.removed, job.moved, job.freed)]
            table.add_row(_time(each.began), job.job, job.outcome, *figures, f"{job.seconds:,.1f}")
    make_console().print(table)


@maintenance.command()
def pause(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Let no task run, in any program, until they are resumed."""
    _on_cache(config, url, _any, lambda cache: _service(cache).pause())
    print_json({"paused": True}) if json else print_line("paused")


@maintenance.command()
def resume(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Let tasks run again; those that were stopped go on where they were."""
    _on_cache(config, url, _any, lambda cache: _service(cache).resume())
    print_json({"paused": False}) if json else print_line("resumed")


@maintenance.command()
def rebalance(
    plan: Annotated[bool, typer.Option("--plan", help="Show the moves, and do nothing.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="How far from the mean a server may be; 0.2 is a fifth."),
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Move slots of a Redis Cluster, or keys of a ring, until its servers have about as many keys
    each, and end moves that were interrupted. Its programs go on meanwhile.

    Example: cache maintenance rebalance --plan --url 'redis://node1:6379?cluster=true'
    """

    def only(found: CacheConfig) -> MaintenanceConfig:
        return _rebalancing(found, threshold)

    if plan:
        wanted = Rebalance().threshold if threshold is None else threshold
        _show_plan(_on_cache(config, url, only, lambda cache: cache.get_balance(wanted)), json=json)
        return
    options = {} if threshold is None else {"threshold": threshold}
    done = _on_cache(
        config, url, only, lambda cache: _run(cache, ["rebalance"], options, json=json), "asked"
    )
    _show_run(done, json=json)


# -- the cache


def _configured(config: CacheConfig) -> MaintenanceConfig:
    if config.maintenance is None:
        raise NotSupported(
            "no maintenance is configured: give the file of the cache (--config), with a section "
            "'maintenance' that names its tasks"
        )
    return config.maintenance


def _any(config: CacheConfig) -> MaintenanceConfig:
    return config.maintenance or MaintenanceConfig(schedule=_NEVER)


def _rebalancing(config: CacheConfig, threshold: float | None) -> MaintenanceConfig:
    """The configured maintenance, whose tasks rebalance, as far as is said here."""
    known = _any(config)
    wanted = [each for each in known.tasks if isinstance(each, Rebalance)][:1]
    if threshold is not None or not wanted:
        wanted = [Rebalance() if threshold is None else Rebalance(threshold=threshold)]
    return msgspec.structs.replace(known, tasks=wanted)


def _service(cache: Cache) -> Maintenance:
    return cache.access.runtime.maintenance


def _on_cache(
    file: Path | None,
    url: str | None,
    maintained: Callable[[CacheConfig], MaintenanceConfig],
    work: Callable[[Cache], Awaitable[T]],
    duties: Duties = "none",
) -> T:
    cache = make_cache(file, url, maintained=maintained)
    _service(cache).duties = duties

    async def session() -> T:
        async with aclosing(cache):
            await cache.start()
            return await work(cache)

    return asyncio.run(session())


async def _state(cache: Cache) -> MaintenanceState:
    return await cache.get_maintenance()


async def _run(
    cache: Cache, tasks: list[str], options: dict[str, float], *, json: bool
) -> MaintenanceRun:
    service = _service(cache)
    request = await service.ask(MAINTENANCE_PLAN, tasks, options)
    with follow(request, shown=not json) as look:
        return await service.finished(request, look)


# -- what is shown


def _time(moment: float) -> str:
    return f"{dt.datetime.fromtimestamp(moment, dt.UTC):%Y-%m-%d %H:%M:%S}Z"


def _show_run(done: MaintenanceRun, *, json: bool) -> None:
    if json:
        print_json({**msgspec.to_builtins(done), "outcome": done.outcome})
    else:
        _show_jobs(done)
    if done.outcome == "failed":
        raise typer.Exit(_FAILED)


def _show_jobs(shown: MaintenanceRun) -> None:
    for job in shown.jobs:
        print_line(f"{job.job}: {job.outcome}{_did(job)}")
        for note in job.notes:
            print_line(f"  {safe(note)}")
        if job.error:
            print_line(f"  {safe(job.error)}")


def _did(job: Progress) -> str:
    parts = {
        "looked at": job.looked,
        "removed": job.removed,
        "moved": job.moved,
        "bytes freed": job.freed,
    }
    told = ", ".join([f"{count:,} {what}" for what, count in parts.items() if count])
    return f" ({told})" if told else ""


def _show_plan(found: Balance, *, json: bool) -> None:
    if json:
        print_json({**msgspec.to_builtins(found), "keys": found.keys})
        return
    table = plain_table("server", "keys", "gives", "takes", "would have")
    for name, keys in sorted(found.loads.items()):
        gives = sum([move.keys for move in found.moves if move.source == name])
        takes = sum([move.keys for move in found.moves if move.target == name])
        table.add_row(name, *[f"{n:,}" for n in (keys, gives, takes, keys - gives + takes)])
    make_console().print(table)
    if not found.moves:
        print_line("nothing to move")
        return
    what = "" if found.weights else f"{len(found.moves):,} slots with "
    print_line(f"{what}{found.keys:,} keys would move; the least that has to is {found.least:,}")
    if found.weights:
        told = ", ".join([f"{name} {weight:g}" for name, weight in found.weights.items()])
        print_line(f"weights then: {told}")
