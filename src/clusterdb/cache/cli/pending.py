"""``cache storage pending`` and ``flush``: what is to be written behind, and what was refused."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import warnings
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import typer

from clusterdb.cache import Cache, CacheConfig, InvalidArgument

from ..clock import SystemClock
from ..config import WriteBehind
from ..errors import InactiveSetting, NoStorage
from ..factory import read_intents
from ..intents import Intent, PutAside
from ..types import MISSING
from .output import make_console, plain_table, print_json, print_line
from .target import VARIABLE, AsJson

__all__ = ["flush", "pending"]

_MOST: Final = 1_000

_ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help=f"The YAML file of the cache; else the one that {VARIABLE} names.",
        show_default=False,
    ),
]


class _Pending(msgspec.Struct):
    """An intent without its value, which may be anybody's."""

    region: str
    key: str
    version: int
    deletes: bool


def _behind(file: Path | None) -> CacheConfig:
    """A configuration with something that is written behind."""
    source = str(file or os.environ.get(VARIABLE, ""))
    if not source:
        raise InvalidArgument(f"which cache? Name its file: --config FILE, or {VARIABLE}")
    config = CacheConfig.from_yaml(source)
    modes = [config.mode_of(None), *[config.mode_of(region) for region in config.regions]]
    if not any(isinstance(mode, WriteBehind) for mode in modes):
        raise NoStorage(f"{source}: nothing is written behind; coherence.mode: write_behind is it")
    return config


def pending(config: _ConfigFile = None, json: AsJson = False) -> None:
    """Show what is accepted and not yet in the database, and what the database refused."""
    intents, aside = asyncio.run(read_intents(_behind(config), SystemClock()))
    shown = [_Pending(*each.place, each.version, each.value is MISSING) for each in intents]
    if json:
        print_json(msgspec.to_builtins({"pending": shown, "refused": aside}))
        return
    _print_pending(intents)
    _print_refused(aside)


def _print_pending(intents: list[Intent]) -> None:
    if not intents:
        print_line("nothing is pending")
        return
    table = plain_table("region", "key", "change", "version", texts=3)
    for intent in intents[:_MOST]:
        change = "delete" if intent.value is MISSING else "write"
        table.add_row(intent.region, intent.key, change, str(intent.version))
    make_console().print(table)
    if len(intents) > _MOST:
        print_line(f"and {len(intents) - _MOST:,} more; --json shows all")


def _print_refused(aside: list[PutAside]) -> None:
    if not aside:
        return
    table = plain_table("refused", "key", "code", "when", "why", texts=5)
    for each in aside[:_MOST]:
        when = dt.datetime.fromtimestamp(each.time, dt.UTC)
        table.add_row(each.region, each.key, each.code, f"{when:%Y-%m-%d %H:%M:%S}", each.reason)
    make_console().print(table)


def flush(config: _ConfigFile = None, json: AsJson = False) -> None:
    """Write what is pending, and no living process's own, to the database now."""
    before, after = asyncio.run(_flush(_behind(config)))
    if json:
        print_json({"written": before - after, "pending": after})
        return
    print_line(f"{before - after:,} written, {after:,} pending")


async def _flush(config: CacheConfig) -> tuple[int, int]:
    """How many were pending before and after a start and an end of the cache."""
    clock = SystemClock()
    with warnings.catch_warnings():  # `cache config check` tells them
        warnings.simplefilter("ignore", InactiveSetting)
        cache = Cache(config)
    before, _ = await read_intents(config, clock)
    async with aclosing(cache):  # also where it can't be opened
        await cache.start()
    after, _ = await read_intents(config, clock)
    return len(before), len(after)
