"""``cache delete``, ``cache touch`` and ``cache increment``."""

from __future__ import annotations

from typing import Annotated

import typer

from .get import Key
from .output import fail, print_json, print_line
from .set import Ttl, ttl_of
from .target import AsJson, ConfigFile, RegionName, Url, on_region

__all__ = ["delete", "increment", "touch"]


def delete(
    keys: Annotated[list[str], typer.Argument(help="The keys.", show_default=False)],
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Delete entries. Exits 1 where none of the keys had one."""
    count = on_region(config, url, region, lambda chosen: chosen.delete_many(keys))
    if json:
        print_json({"region": region or "default", "deleted": count})
    else:
        print_line(f"{count} deleted")
    if not count:
        raise typer.Exit(1)


def touch(
    key: Key,
    ttl: Annotated[
        str, typer.Argument(help="How long it lives from now: 90s, 1h30m, 7d, or none for ever.")
    ],
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Give an entry a new time to live. Exits 1 where there is none."""
    lifetime = ttl_of(ttl)
    assert lifetime is None or isinstance(lifetime, str)
    touched = on_region(config, url, region, lambda chosen: chosen.touch(key, lifetime))
    if json:
        print_json({"key": key, "region": region or "default", "touched": touched})
    elif touched:
        print_line("touched")
    else:
        fail(f"no entry {key!r}")
    if not touched:
        raise typer.Exit(1)


def increment(
    key: Key,
    delta: Annotated[int, typer.Argument(help="What is added; it may be negative.")] = 1,
    initial: Annotated[int, typer.Option("--initial", help="Where an absent key starts.")] = 0,
    ttl: Ttl = None,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Add to a whole number, atomically, and show the sum. --ttl counts where the key is new."""
    total = on_region(
        config,
        url,
        region,
        lambda chosen: chosen.increment(key, delta, initial=initial, ttl=ttl_of(ttl)),
        may_create=True,
    )
    if json:
        print_json({"key": key, "region": region or "default", "value": total})
    else:
        print_line(str(total))
