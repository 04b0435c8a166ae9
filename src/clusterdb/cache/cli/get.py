"""``cache get`` and ``cache exists``.

Both look past the face, at what the backend has: a command that is not configured as the program
that wrote an entry may be unable to decode it, and must not take it for worthless and remove it, as
the face does.
"""

from __future__ import annotations

import base64
from json import loads
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from clusterdb.cache import MISSING, InvalidArgument, Region

from ..codec import Encoded
from ..errors import Undecodable
from ..keys import check_key
from ..types import Record
from .output import fail, is_terminal, print_json, print_line, write_bytes
from .target import AsJson, ConfigFile, RegionName, Url, on_region
from .values import Built, as_json

__all__ = ["Key", "exists", "get", "read"]

Key = Annotated[str, typer.Argument(help="The key.", show_default=False)]


async def read(region: Region[Any], key: str) -> Record | None:
    """What is under a key, its value in builtins; counts as a read."""
    backend, name = region.access.runtime.backend, region.name
    [record] = await backend.read(name, [check_key(key)])
    if record is None:
        return None
    if record.near is not None:
        backend.keep(name, record, MISSING)
    return msgspec.structs.replace(record, value=_decoded(region, record), near=None)


def _decoded(region: Region[Any], record: Record) -> Any:
    value, codec = record.value, region.access.state.codec
    if isinstance(value, Undecodable):
        raise value
    if codec is None or not isinstance(value, Encoded):
        return value
    found = codec.decode(value, Built)
    return found.value if isinstance(found, Built) else found


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
    found = on_region(config, url, region, lambda chosen: read(chosen, key))
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


def _as_builtins(found: Record | None) -> dict[str, Any]:
    if found is None:
        return {"found": False}
    kind, value = "json", found.value
    if isinstance(value, str):
        kind = "text"
    elif isinstance(value, bytes):
        kind, value = "bytes", base64.b64encode(value).decode()
    else:
        value = loads(as_json(value))
    return {
        "found": True,
        "type": kind,
        "value": value,
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

    async def peek(chosen: Region[Any]) -> bool:
        [record] = await chosen.access.runtime.backend.peek(chosen.name, [check_key(key)])
        return record is not None

    found = on_region(config, url, region, peek)
    if json:
        print_json({"key": key, "region": region or "default", "exists": found})
    else:
        print_line("yes" if found else "no")
    if not found:
        raise typer.Exit(1)
