"""``cache invalidate`` and ``cache clear``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from clusterdb.cache import InvalidArgument

from .output import is_terminal, print_json, print_line, progress
from .target import AnyRegion, AsJson, ConfigFile, RegionName, Url, on_region

__all__ = ["clear", "invalidate"]


def invalidate(
    keys: Annotated[list[str] | None, typer.Argument(help="The keys.", show_default=False)] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            help="Every entry with this tag, in all regions; may be given several times.",
            show_default=False,
        ),
    ] = None,
    matching: Annotated[
        list[str] | None,
        typer.Option(
            "--matching",
            help="Every key that matches this glob; may be given several times.",
            show_default=False,
        ),
    ] = None,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Make entries misses, by key, glob or tag, and let running loads of them store nothing."""
    if not keys and not tag and not matching:
        raise InvalidArgument("name keys, globs by --matching, or tags by --tag")

    async def work(chosen: AnyRegion) -> int:
        for each in tag or ():
            await chosen.invalidate_tag(each)
        removed = sum([await chosen.invalidate_matching(glob) for glob in matching or ()])
        return removed + (await chosen.invalidate_many(keys) if keys else 0)

    count = on_region(config, url, region, work)
    if json:
        said = {"region": region or "default", "keys": keys or [], "tags": tag or []}
        said["matching"] = matching or []
        print_json({**said, "invalidated": count})
    elif keys or matching:
        print_line(f"{count} invalidated")
    else:
        print_line("invalidated")


def clear(
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask, on a terminal.")] = False,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Remove every entry, or those of one region."""
    what = "of all regions" if region is None else f"of region {region!r}"
    asking = not yes and sys.stdin.isatty() and is_terminal()
    if asking and not typer.confirm(f"Remove every entry {what}?"):
        raise typer.Exit(1)
    with progress("clearing"):  # of the cache itself: all regions
        count = on_region(config, url, region, lambda chosen: chosen.clear())
    if json:
        print_json({"region": region, "removed": count})
    else:
        print_line(f"{count:,} removed")
