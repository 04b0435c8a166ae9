"""``cache health``: whether a cache can do its work, for a person and for a script."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import msgspec
import typer

from clusterdb.cache import Cache
from clusterdb.monitoring import Health

from .output import make_console, print_json, safe
from .served import ServedView
from .target import AsJson, ConfigFile, Url, make_cache, server_of

__all__ = ["health"]

_COLOURS = {"ok": "green", "degraded": "yellow", "failing": "red"}


def health(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Say whether the cache can do its work, and what is wrong with its cause and remedy. Exits 1
    where a check fails; one that is degraded works.

    Example: cache health --url redis://localhost:6379 --json
    """
    server = server_of(config, url)
    if server is not None:
        found = asyncio.run(ServedView(server).health())
    else:
        found = asyncio.run(_look(make_cache(config, url)))
    if json:
        report: dict[str, Any] = {"status": found.status, "live": found.live, "ready": found.ready}
        print_json({**report, **msgspec.to_builtins(found)})
    else:
        _show(found)
    if not found.ready:
        raise typer.Exit(1)


async def _look(cache: Cache) -> Health:
    async with aclosing(cache):
        return await cache.get_health()  # which tells of a backend that can't be reached


def _show(found: Health) -> None:
    console = make_console()
    console.print(f"[{_COLOURS[found.status]}]{found.status}[/]")
    for check in found.checks:
        console.print(f"[{_COLOURS[check.status]}]{check.status:<9}[/]", end=" ")
        console.print(safe(f"{check.name}: {check.detail}"), markup=False, soft_wrap=True)
        if check.remedy and check.status != "ok":
            console.print(f"          {safe(check.remedy)}", markup=False, soft_wrap=True)
