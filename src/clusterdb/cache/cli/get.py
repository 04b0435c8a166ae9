"""``cache get`` and ``cache exists``.

Both look at what the backend has, not through the face: see :mod:`..inspecting`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clusterdb.cache import InvalidArgument

from ..inspecting import as_json, described, present, read
from ..types import Record
from .output import fail, is_terminal, print_json, print_line, write_bytes
from .served_region import ServedRegion
from .target import AnyRegion, AsJson, ConfigFile, RegionName, Url, on_region

__all__ = ["Key", "exists", "get"]

Key = Annotated[str, typer.Argument(help="The key.", show_default=False)]


def get(
    key: Key,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Write the value to this file.", show_default=False),
    ] = None,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Show the value under a key. Exits 1 where there is none.

    Text is shown as it is, bytes go to a file or pipe as they are, and anything else is JSON.
    """
    found = on_region(config, url, region, lambda chosen: _read(chosen, key))
    if json:
        print_json({"key": key, "region": region or "default", **_as_builtins(found)})
    elif found is None:
        fail(f"no entry {key!r}")
    elif output is not None:
        _save(output, found.value)
    else:
        _show(key, found.value)
    if found is None:
        raise typer.Exit(1)


async def _read(region: AnyRegion, key: str) -> Record | None:
    if isinstance(region, ServedRegion):
        return await region.read(key)
    return await read(region, key)


async def _present(region: AnyRegion, key: str) -> bool:
    if isinstance(region, ServedRegion):
        return await region.present(key)
    return await present(region, key)


def _as_builtins(found: Record | None) -> dict[str, Any]:
    if found is None:
        return {"found": False}
    return {
        "found": True,
        **described(found.value),
        "version": found.version,
        "expires_in": found.expires_in,
        "tags": list(found.tags),
        "tier": found.tier,
    }


def _save(file: Path, value: Any) -> None:
    content = value if isinstance(value, (str, bytes)) else as_json(value) + "\n"
    file.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)


def _show(key: str, value: Any) -> None:
    if isinstance(value, bytes):
        if is_terminal():
            raise InvalidArgument(
                f"{key!r} holds {len(value):,} bytes, which are not for a terminal: "
                f"use --output FILE, a pipe, or --json"
            )
        write_bytes(value)
    elif isinstance(value, str) and not is_terminal():
        write_bytes(value.encode("utf-8") + b"\n")
    elif isinstance(value, str):
        print_line(value, keep="\n\t")
    else:
        print_line(as_json(value))


def exists(
    key: Key,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Say whether a key has an entry, by exit code 0 or 1. Counts as no read."""
    found = on_region(config, url, region, lambda chosen: _present(chosen, key))
    if json:
        print_json({"key": key, "region": region or "default", "exists": found})
    else:
        print_line("yes" if found else "no")
    if not found:
        raise typer.Exit(1)
