"""``cache warm``: copies rows of a storage into the cache, before programs ask for them.

A command's own near tier ends with it: what it can warm is a cache that programs share, from the
storage behind it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from clusterdb.cache import Cache, InvalidArgument, Warmed

from ..errors import NoStorage
from ..inspecting import Built
from ..settings import DEFAULT_REGION
from ..warming import hot_keys
from .output import print_json, print_line, progress
from .target import AsJson, ConfigFile, RegionName, Url, configured, on_cache, region_in

__all__ = ["warm"]


def warm(
    keys: Annotated[list[str] | None, typer.Argument(help="The keys.", show_default=False)] = None,
    keys_from: Annotated[
        str | None,
        typer.Option(
            "--from", help="Read keys from this file, one a line; - is stdin.", show_default=False
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="At most so many keys a second.", show_default=False),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="So many batches of 100 at a time.")
    ] = 4,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Copy rows of the storage behind a region into the cache, before programs ask for them.

    Without keys: those that were hottest in the last run of a program, where the configuration has
    warm_start. Example: cache warm user:1 user:2 --config cache.yaml
    """
    name = region or DEFAULT_REGION
    wanted = _wanted(keys, keys_from, config, url, name)

    async def work(cache: Cache) -> Warmed:
        chosen = cache if region is None else region_in(cache, region)
        state = chosen.access.state
        if state.settings.mode is None:
            raise NoStorage(
                f"region {name!r} has no storage behind it to copy from, and what a command keeps "
                f"near ends with it: call await cache.warm(keys) in the program that reads"
            )
        with progress("warming") as step:
            done = 0

            def told(warmed: Warmed) -> None:
                nonlocal done
                count = warmed.found + warmed.missing + warmed.failed
                step(count - done)
                done = count

            return await chosen.warm(
                wanted, type=Built, rate=rate, concurrency=concurrency, progress=told
            )

    warmed = on_cache(config, url, work)
    if json:
        print_json({"region": name, **msgspec.to_builtins(warmed)})
    else:
        print_line(f"{warmed.found:,} cached, {warmed.missing:,} not in the storage")


def _wanted(
    keys: list[str] | None,
    keys_from: str | None,
    config: Path | None,
    url: str | None,
    region: str,
) -> Iterable[str]:
    """The keys that are named; those of the last run where none are."""
    if keys and keys_from is not None:
        raise InvalidArgument("name keys, or a file of keys by --from, and not both")
    if keys:
        return keys
    if keys_from is not None:
        text = sys.stdin.read() if keys_from == "-" else _text(Path(keys_from))
        return [line for line in text.splitlines() if line]
    kept = configured(config, url)[0].warm_start
    if kept is None:
        raise InvalidArgument(
            "which keys? Name them, or a file by --from, or have warm_start in the configuration"
        )
    return hot_keys(kept, region)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"keys can't be read from {str(path)!r}: {error}") from None
