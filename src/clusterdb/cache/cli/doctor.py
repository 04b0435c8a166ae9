"""``cache doctor``: what is installed, how it was built, and whether a cache works here."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from clusterdb.cache import Cache, CacheConfig, CacheError, InvalidArgument

from ..checking import told
from ..config import Disk, Redis
from ..diagnosis import Diagnosis, diagnose
from ..protocols import BackendInfo
from .config import check_file
from .installation import (
    EXTRAS,
    asked_pure,
    build,
    clock_is_compiled,
    clock_source,
    extras,
    python,
    version,
)
from .output import make_console, plain_table, print_json, safe
from .target import Url, configured, on_view, server_of
from .view import View

__all__ = ["Check", "Report", "doctor", "examine"]

_SETTLED: Final = 0.5
"""Seconds after which servers have said whether they can track."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was tried; a ``warning`` is ok, and should be looked at. ``remedy`` is what to
    do, where the detail does not say it.
    """

    name: str
    ok: bool
    detail: str
    warning: bool = False
    remedy: str = ""


class Report(msgspec.Struct, frozen=True):
    """All that was looked at."""

    version: str
    python: str
    clock: str
    clock_compiled: bool
    asked_pure: str | None
    modules: dict[str, str]
    extras: dict[str, bool]
    checks: list[Check]

    @property
    def build(self) -> str:
        """``compiled``, ``pure`` or, where an installation is broken, ``mixed``."""
        kinds = set(self.modules.values())
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)


def examine(file: Path | None, url: str | None = None) -> Report:
    """Look at the installation and try an embedded cache, and the cache of ``file`` or ``url`` if
    one is given.
    """
    checks = [asyncio.run(round_trip())]
    if file is not None:
        checks.append(_check_config(file))
    if (file is not None or url is not None) and checks[-1].ok:
        checks += _check_backend(file, url)
    return Report(
        version=version(),
        python=python(),
        clock=clock_source(),
        clock_compiled=clock_is_compiled(),
        asked_pure=asked_pure(),
        modules=build(),
        extras=extras(),
        checks=checks,
    )


async def round_trip() -> Check:
    """Store a value in a cache of its own and read it back."""
    started = time.perf_counter()
    try:
        async with Cache(CacheConfig(name="doctor")) as cache:
            await cache.set("ping", "pong", ttl=60)
            found = await cache.get("ping")
    except CacheError as error:
        return Check("embedded cache", False, str(error))
    if found != "pong":
        return Check("embedded cache", False, f"stored 'pong' and read {found!r}")
    spent = 1000 * (time.perf_counter() - started)
    return Check("embedded cache", True, f"opened, set, get and closed in {spent:.1f} ms")


def _check_config(file: Path) -> Check:
    try:
        summary = check_file(file)
    except CacheError as error:
        return Check("configuration", False, str(error))
    later = f", {len(summary.inactive)} without effect" if summary.inactive else ""
    return Check("configuration", True, f"{file}: {len(summary.regions)} regions{later}")


def _check_backend(file: Path | None, url: str | None) -> list[Check]:
    """Ask a backend that processes share how it is, how it differs from what is configured, and
    what that means.
    """
    name = _backend_of(file, url)
    if name is None:
        return []
    try:
        info, diagnoses = on_view(file, url, _look)
    except CacheError as error:
        return [Check(name, False, str(error))]
    return [
        Check(name, True, _said(info)),
        *[Check(each.error, True, each.cause, True, each.solution) for each in diagnoses],
        *[Check(name, True, text, True) for text in info.problems if not told(text, diagnoses)],
    ]


def _backend_of(file: Path | None, url: str | None) -> str | None:
    """What there is to be asked: a ``file``, or ``servers``; ``None`` without any."""
    if server_of(file, url) is not None:
        return "server"
    backend = configured(file, url)[0].backend
    if isinstance(backend, Redis):
        return "servers"
    there = isinstance(backend, Disk) and Path(backend.path).expanduser().exists()
    return "file" if there else None


async def _look(view: View) -> tuple[BackendInfo, list[Diagnosis]]:
    seen, end = await view.overview(), time.monotonic() + _SETTLED
    while _unsettled(seen.backend) and time.monotonic() < end:
        await asyncio.sleep(_SETTLED / 10)
        seen = await view.overview()
    return seen.backend, diagnose(seen.backend, seen.copies)


def _unsettled(info: BackendInfo) -> bool:
    """Whether a server can track is learnt by asking it to."""
    return bool(info.servers) and not any(each.near for each in info.servers)


def _said(info: BackendInfo) -> str:
    alive = [server for server in info.servers if server.role]
    if not alive:
        return f"{info.size or 0:,} bytes, {len(info.members)} processes"
    slowest = 1000 * max(server.latency for server in alive)
    return f"{len(alive)} answered, the slowest in {slowest:.1f} ms"


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="A configuration file to check too.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="The same as FILE.", show_default=False)
    ] = None,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Say what is installed, whether a cache works here, and what is wrong with the one of FILE or
    --url: each trouble with its cause and solution. Exits 1 where something fails.
    """
    if file is not None and config is not None:
        raise InvalidArgument("FILE and --config name the same: give one of them")
    report = examine(file or config, url)
    if as_json:
        print_json({"ok": report.ok, "build": report.build, **msgspec.to_builtins(report)})
    else:
        _show(report)
    if not report.ok:
        raise typer.Exit(1)


def _show(report: Report) -> None:
    console = make_console()
    reader = "this package's C function" if report.clock_compiled else "the time module"
    asked = "not set" if report.asked_pure is None else f"{report.asked_pure!r} (builds obey it)"
    console.print(f"clusterdb-cache  {report.version}")
    console.print(f"python           {report.python}")
    console.print(f"clock            {report.clock}, read by {reader}")
    console.print(f"hot modules      {report.build} ({len(report.modules)} looked at)")
    console.print(f"CLUSTERDB_PURE   {asked}")
    if report.build == "mixed":
        for name, kind in report.modules.items():
            console.print(f"                 {name}: {kind}")
    table = plain_table("extra", "installed", "imports", texts=3)
    for extra, there in report.extras.items():
        table.add_row(extra, "yes" if there else "no", ", ".join(EXTRAS[extra]))
    console.print(table)
    for check in report.checks:
        verdict = "[green]ok[/]    " if check.ok else "[red]failed[/]"
        if check.warning:
            verdict = "[yellow]look[/]  "
        console.print(verdict, end="  ")
        detail = safe(f"{check.name}: {check.detail}")
        console.print(detail, markup=False, soft_wrap=True)
        if check.remedy:
            console.print(f"        solution: {safe(check.remedy)}", markup=False, soft_wrap=True)
