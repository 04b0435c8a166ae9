"""``cache backup``: make, list, check, restore and remove the backups of a cache.

``list``, ``verify`` and ``prune`` speak to the place of the backups alone: they work while the
cache itself is lost.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
import typer

from clusterdb.cache import (
    S3,
    BackupConfig,
    BackupInfo,
    Backups,
    Cache,
    Directory,
    InactiveSetting,
    InvalidArgument,
    PruneReport,
    RestoreReport,
    VerifyReport,
)

from .output import make_console, plain_table, print_json, print_line, progress, safe
from .target import AsJson, ConfigFile, Url, make_cache, own_cache

__all__ = ["backup"]

T = TypeVar("T")

backup = typer.Typer(name="backup", help="Backups of the cache.", no_args_is_help=True)

_Storage: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--storage",
        help="Where backups are: a directory, or s3://bucket/prefix; else as configured.",
        show_default=False,
    ),
]
_Name: TypeAlias = Annotated[
    str | None,
    typer.Argument(help="The backup; by default the last good one.", show_default=False),
]
_DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
]
_MOST_SHOWN: Final = 10


class Overwrite(enum.StrEnum):
    """What a restored entry may replace."""

    OLDER = "older"
    ALWAYS = "always"
    NEVER = "never"


class Ttl(enum.StrEnum):
    """When a restored entry ends."""

    ABSOLUTE = "absolute"
    REMAINING = "remaining"


@backup.command()
def create(
    full: Annotated[bool, typer.Option("--full", help="Everything, whatever is there.")] = False,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only what changed since the last one.")
    ] = False,
    storage: _Storage = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Back up all regions; a full or an incremental one as `full_every` says."""
    if full and incremental:
        raise InvalidArgument("--full and --incremental exclude each other: choose one")
    kind: Literal["full", "incremental"] | None = None
    if full or incremental:
        kind = "full" if full else "incremental"
    with progress("entries", shown=not json) as advance:
        made = _with_cache(
            lambda: make_cache(config, url),
            storage,
            lambda backups: backups.create(kind=kind, progress=advance),
            opened=True,
        )
    if json:
        print_json(msgspec.to_builtins(made))
        return
    print_line(
        f"{made.id}: {made.kind}, {made.entries:,} entries, {made.stored:,} of them stored in "
        f"{made.size:,} bytes"
    )
    for problem in made.problems[:_MOST_SHOWN]:
        print_line(f"left out: {problem}")


@backup.command("list")
def list_backups(
    storage: _Storage = None, config: ConfigFile = None, url: Url = None, json: AsJson = False
) -> None:
    """Show the backups, the oldest first."""
    found = _with_cache(lambda: own_cache(config, url), storage, lambda backups: backups.list())
    if json:
        print_json({"backups": msgspec.to_builtins(found)})
        return
    if not found:
        print_line("there is no backup")
        return
    _show_list(found)


@backup.command()
def verify(
    name: _Name = None,
    storage: _Storage = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Read every block of a backup back, and restore a sample for a trial."""
    with progress("entries", shown=not json) as advance:
        report = _with_cache(
            lambda: own_cache(config, url),
            storage,
            lambda backups: backups.verify(name, progress=advance),
        )
    if json:
        print_json({**_plain(report), "good": report.good})
    else:
        _show_verified(report)
    if not report.good:
        raise typer.Exit(1)


@backup.command()
def restore(
    name: _Name = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", help="Only this region; may be repeated.", show_default=False),
    ] = None,
    pattern: Annotated[str, typer.Option(help="Only keys that match.")] = "*",
    overwrite: Annotated[
        Overwrite, typer.Option(help="Which entries that are there may be replaced.")
    ] = Overwrite.OLDER,
    ttl: Annotated[
        Ttl, typer.Option(help="End as without the loss, or after what remained then.")
    ] = Ttl.ABSOLUTE,
    dry_run: _DryRun = False,
    storage: _Storage = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Put back what a backup holds, never over something newer unless told to."""
    wanted: dict[str, Any] = {"pattern": pattern, "overwrite": overwrite.value, "ttl": ttl.value}
    with progress("entries", shown=not json) as advance:
        report = _with_cache(
            lambda: make_cache(config, url, may_create=True),
            storage,
            lambda backups: backups.restore(
                name, regions=region, dry_run=dry_run, progress=advance, **wanted
            ),
            opened=True,
        )
    if json:
        print_json(_plain(report))
    else:
        _show_restored(report)
    if report.failed:
        raise typer.Exit(1)


@backup.command()
def prune(
    dry_run: _DryRun = False,
    storage: _Storage = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Remove backups past their retention, but never the last good one."""
    report: PruneReport = _with_cache(
        lambda: own_cache(config, url), storage, lambda backups: backups.prune(dry_run=dry_run)
    )
    if json:
        print_json(_plain(report))
        return
    would = "would be removed" if dry_run else "removed"
    for name in report.backups:
        print_line(f"{name}: {would}")
    for name in report.unfinished:
        print_line(f"{name}: {would}; it was never finished")
    if not report.backups and not report.unfinished:
        print_line("nothing is past its time")


def _with_cache(
    make: Callable[[], Cache],
    storage: str | None,
    work: Callable[[Backups], Awaitable[T]],
    *,
    opened: bool = False,
) -> T:
    """Do the work with the backups of a cache, which is opened only where entries are moved."""

    async def session() -> T:
        cache = make()
        cache.access.runtime.maintenance.duties = "none"  # only what the command is for
        try:
            if storage is not None:
                await cache.configure_backup(_placed(cache.config.backup, storage))
            if opened:
                await cache.start()
            return await work(cache.backups)
        finally:
            await cache.aclose()

    with warnings.catch_warnings():  # `cache config check` tells them
        warnings.simplefilter("ignore", InactiveSetting)
        return asyncio.run(session())


def _placed(config: BackupConfig | None, storage: str) -> BackupConfig:
    """The configuration with another place."""
    scheme, found, rest = storage.partition("://")
    if found and scheme != "s3":
        raise InvalidArgument(f"--storage is a directory or s3://bucket/prefix, not {storage!r}")
    place: S3 | Directory
    if found:
        bucket, _, prefix = rest.partition("/")
        like = config.storage if config is not None and isinstance(config.storage, S3) else None
        place = (
            S3(bucket=bucket, prefix=prefix)
            if like is None
            else msgspec.structs.replace(like, bucket=bucket, prefix=prefix)
        )
    else:
        place = Directory(path=Path(storage))
    if config is None:
        return BackupConfig(schedule="0 0 * * *", retention="7d", storage=place)
    return msgspec.structs.replace(config, storage=place)


def _plain(report: RestoreReport | VerifyReport | PruneReport) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(report)
    return plain


def _show_list(found: list[BackupInfo]) -> None:
    table = plain_table(
        "backup", "kind", "finished (UTC)", "entries", "stored", "bytes", "state", texts=3
    )
    for each in found:
        when = dt.datetime.fromtimestamp(each.finished, dt.UTC)
        complete = each.kind in ("full", "incremental")
        figures = [f"{number:,}" for number in (each.entries, each.stored, each.size)]
        table.add_row(
            each.id,
            each.kind,
            f"{when:%Y-%m-%d %H:%M:%S}" if complete else "-",
            *(figures if complete else ["-", "-", "-"]),
            "[red]broken[/]" if each.problem else "good",
        )
    console = make_console()
    console.print(table)
    for each in found:
        if each.problem:
            text = safe(f"{each.id}: {each.problem}")
            console.print(text, style="yellow", markup=False, soft_wrap=True)


def _show_verified(report: VerifyReport) -> None:
    state = "good" if report.good else "DAMAGED"
    print_line(
        f"{report.backup}: {state}; {report.files:,} files of {len(report.chain)} backups, "
        f"{report.records:,} records, {report.size:,} bytes; {report.sampled:,} entries restored "
        f"for a trial"
    )
    for problem in report.problems[:_MOST_SHOWN]:
        print_line(problem)


def _show_restored(report: RestoreReport) -> None:
    would = "would be restored" if report.dry_run else "restored"
    print_line(
        f"{report.backup}: {report.restored:,} {would}, {report.kept:,} left as they are, "
        f"{report.expired:,} expired, {report.failed:,} failed"
    )
    for failure in report.failures[:_MOST_SHOWN]:
        print_line(failure)
