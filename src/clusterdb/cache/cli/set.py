"""``cache set``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from msgspec import UNSET, UnsetType

from .get import Key
from .output import fail, print_json, print_line
from .target import AsJson, ConfigFile, RegionName, Url, on_region
from .values import given_value

__all__ = ["Ttl", "set_value", "ttl_of"]

Ttl: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--ttl", help="How long it lives: 90s, 1h30m, 7d, or none for ever.", show_default=False
    ),
]


def ttl_of(text: str | None) -> str | UnsetType | None:
    """A TTL as the cache takes it."""
    if text is None:
        return UNSET
    return None if text.strip().casefold() == "none" else text


def set_value(
    key: Key,
    value: Annotated[str | None, typer.Argument(help="The value.", show_default=False)] = None,
    text: Annotated[bool, typer.Option("--text", help="The value is text.")] = False,
    json_value: Annotated[bool, typer.Option("--json-value", help="The value is JSON.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Take the value, as bytes, from this file; - is stdin.",
            show_default=False,
        ),
    ] = None,
    ttl: Ttl = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", help="A tag; may be given several times.", show_default=False),
    ] = None,
    nx: Annotated[bool, typer.Option("--nx", help="Only if the key has no entry.")] = False,
    xx: Annotated[bool, typer.Option("--xx", help="Only if the key has an entry.")] = False,
    keep_ttl: Annotated[
        bool, typer.Option("--keep-ttl", help="Keep the expiry that the entry has.")
    ] = False,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Store a value. Exits 1 where --nx or --xx did not hold.

    What is JSON is stored as such, anything else as text; --text, --json-value and --file say what
    it is.
    """
    content = given_value(value, file, as_text=text, as_json=json_value)
    stored = on_region(
        config,
        url,
        region,
        lambda chosen: chosen.set(
            key, content, ttl=ttl_of(ttl), nx=nx, xx=xx, keep_ttl=keep_ttl, tags=tag or ()
        ),
        may_create=True,
    )
    if json:
        print_json({"key": key, "region": region or "default", "stored": stored})
    elif stored:
        print_line("stored")
    else:
        fail(f"not stored: {key!r} has {'an entry (--nx)' if nx else 'no entry (--xx)'}")
    if not stored:
        raise typer.Exit(1)
