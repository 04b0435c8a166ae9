"""``cache keys hot``: the keys that programs read most. :mod:`..tally` says how they are known."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from clusterdb.cache import InvalidArgument, NotSupported, Redis

from ..clock import SystemClock
from ..factory import make_reads
from ..settings import DEFAULT_REGION
from ..tally import HotKeys, Tally, count_reads
from ..units import seconds
from .output import make_console, plain_table, print_json, safe
from .served import ServedView
from .target import AsJson, ConfigFile, RegionName, Url, configured, no_region, server_of

__all__ = ["keys"]

_COST: Final = (
    "cache: MONITOR sends every command of the server here: it may do half as much meanwhile. Reads"
    " that the near tier of a program answers never reach the server, and are not counted\n"
)
_BEGUN: Final = "cache: counting; Ctrl-C ends it sooner\n"
_SAMPLE: Final = "cache: of a sample of what the serving process has read since it began\n"

keys = typer.Typer(name="keys", help="The keys that are read.", no_args_is_help=True)


@keys.callback()
def _keys() -> None:
    """The keys that are read."""


@keys.command()
def hot(
    duration: Annotated[str, typer.Option("--for", help="Count for so long: 5s, 1m.")] = "10s",
    count: Annotated[int, typer.Option("--count", min=1, help="Show so many.")] = 10,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Count which keys of a region programs read most from Redis, for a while. The server is asked
    to tell every command it carries out, which costs it much; hits of near tiers it never sees. A
    program that serves a cache of its own knows its reads: --url http://...

    Example: cache keys hot --url redis://localhost:6379 --for 5s
    """
    lasting = seconds(duration)
    if lasting == 0:
        raise InvalidArgument(f"--for is above 0 seconds, not {duration!r}")
    server = server_of(config, url)
    if server is None:
        found = _counted(config, url, region, lasting, count)
    else:
        view = ServedView(server)
        found = asyncio.run(_served(view, region or DEFAULT_REGION, lasting, count))
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        _show(found)


def _counted(
    file: Path | None, url: str | None, region: str | None, lasting: float, count: int
) -> HotKeys:
    """Count on Redis, from here."""
    chosen, _, _ = configured(file, url)
    known = [DEFAULT_REGION, *[each.name for each in chosen.regions]]
    name = region or DEFAULT_REGION
    if name not in known:
        raise no_region(name, known)
    if not isinstance(chosen.backend, Redis):
        raise NotSupported(
            f"backend {chosen.backend.__struct_config__.tag!r} is read inside of the programs that "
            f"use it, where no command can look: (await cache.advise({name!r})).hot_keys in one of "
            f"them says it, and so does a server in it: --url http://..."
        )
    sys.stderr.write(_COST)
    tally = Tally()
    reads = make_reads(chosen, name, SystemClock())
    with suppress(KeyboardInterrupt):
        asyncio.run(count_reads(reads, lasting, tally, _begun))
    return tally.hot_keys(name, lasting, count)


def _begun() -> None:
    sys.stderr.write(_BEGUN)
    sys.stderr.flush()


async def _served(view: ServedView, region: str, lasting: float, count: int) -> HotKeys:
    """Let the server count on its Redis, or tell what it knows of its own reads."""
    query = {"count": str(count)}
    if (await view.overview()).backend.kind == "redis":
        sys.stderr.write(_COST)
        return await view.hot_keys(region, query | {"seconds": f"{math.ceil(lasting)}"}, lasting)
    found = await view.hot_keys(region, query, 0)
    sys.stderr.write(_SAMPLE)
    return found


def _show(found: HotKeys) -> None:
    from rich.text import Text

    console = make_console()
    table = plain_table("key", "reads", "share", texts=1)
    for key, reads, share in found.keys:
        table.add_row(Text(safe(key)), "" if reads is None else f"{reads:,}", f"{share:.1%}")
    nothing = f"no read of region {safe(found.region)} was seen"
    console.print(table if found.keys else Text(nothing))
