"""``cache doctor``: what is installed, how it was built, and whether a cache works here."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from clusterdb.cache import Cache, CacheConfig, CacheError

from ..config import Redis
from .config import check_file
from .figures import describe
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
from .output import make_console, plain_table, print_json
from .target import on_cache

__all__ = ["Check", "Report", "doctor", "examine"]


class Check(msgspec.Struct, frozen=True):
    """One thing that was tried; a ``warning`` is ok, and should be looked at."""

    name: str
    ok: bool
    detail: str
    warning: bool = False


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


def examine(file: Path | None) -> Report:
    """Look at the installation and try an embedded cache, and ``file`` if one is given."""
    checks = [asyncio.run(round_trip())]
    if file is not None:
        checks.append(_check_config(file))
        if checks[-1].ok:
            checks += _check_servers(file)
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
    later = f", {len(summary.inactive)} not acted on yet" if summary.inactive else ""
    return Check("configuration", True, f"{file}: {len(summary.regions)} regions{later}")


def _check_servers(file: Path) -> list[Check]:
    """Ask the servers of a Redis backend how they are, and how they differ from ``file``."""
    if not isinstance(CacheConfig.from_yaml(file).backend, Redis):
        return []
    try:
        info = on_cache(file, None, describe)
    except CacheError as error:
        return [Check("servers", False, str(error))]
    alive = [server for server in info.servers if server.role]
    slowest = 1000 * max(server.latency for server in alive)
    said = f"{len(alive)} answered, the slowest in {slowest:.1f} ms"
    return [
        Check("servers", True, said),
        *[Check("servers", True, problem, warning=True) for problem in info.problems],
    ]


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="A configuration file to check too.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Say what is installed and whether a cache works here. Exits 1 where something fails."""
    report = examine(file)
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
        console.print(f"{check.name}: {check.detail}", markup=False, soft_wrap=True)
