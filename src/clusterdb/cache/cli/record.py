"""``cache record``: the reads that programs make, written to a file to be replayed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from clusterdb.cache import InvalidArgument

from ..clock import SystemClock
from ..factory import make_reads
from ..patterns import check_sample, record_reads
from ..settings import DEFAULT_REGION
from ..units import seconds
from .output import print_json, print_line, progress
from .target import AsJson, ConfigFile, RegionName, Url, configured, no_region

__all__ = ["record"]

_COST: Final = (
    "cache: MONITOR sends every command of the server here: it may do half as much meanwhile. Reads"
    " that the near tier of a program answers never reach the server, and are not recorded\n"
)
_BEGUN: Final = "cache: recording; Ctrl-C ends it, and keeps what was recorded\n"


def record(
    file: Annotated[Path, typer.Argument(help="The file to write.", show_default=False)],
    duration: Annotated[str, typer.Option("--for", help="For how long: 10s, 5m.")] = "60s",
    sample: Annotated[float, typer.Option(help="The share of keys that is recorded.")] = 0.1,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Record what programs read from a region on Redis, for `cache simulate` and `cache advise`.

    Keys are hashed. The server is asked to tell every command it carries out, which costs it much.
    """
    lasting = seconds(duration)
    if lasting == 0:
        raise InvalidArgument(f"--for is above 0 seconds, not {duration!r}")
    check_sample(sample)
    chosen, _, _ = configured(config, url)
    known = [DEFAULT_REGION, *[each.name for each in chosen.regions]]
    name = region or DEFAULT_REGION
    if name not in known:
        raise no_region(name, known)
    reads = make_reads(chosen, name, SystemClock())
    sys.stderr.write(_COST)
    recorded = 0
    with progress("recording") as advance:

        def wrote(count: int) -> None:
            nonlocal recorded
            recorded += count
            advance(count)

        asyncio.run(record_reads(reads, file, lasting, sample, begun=_begun, wrote=wrote))
    if json:
        print_json({"file": str(file), "reads": recorded, "sample": sample, "seconds": lasting})
    else:
        print_line(f"{file}: {recorded:,} reads of {sample:.0%} of the keys of region {name}")


def _begun() -> None:
    sys.stderr.write(_BEGUN)
    sys.stderr.flush()
