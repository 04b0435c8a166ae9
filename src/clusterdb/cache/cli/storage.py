"""``cache storage``: the database behind the cache, its tables and what is in them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import typer

from clusterdb.cache import CacheConfig, InvalidArgument, StorageBackend

from ..clock import SystemClock
from ..errors import NoStorage
from ..factory import make_setup, make_storage, storages_of
from ..rows import StorageInfo
from .output import make_console, plain_table, print_json, print_line
from .target import VARIABLE, AsJson

__all__ = ["storage"]

storage = typer.Typer(name="storage", help="The database behind the cache.", no_args_is_help=True)

_ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help=f"The YAML file of the cache; else the one that {VARIABLE} names.",
        show_default=False,
    ),
]

_UNKNOWN: Final = "-"


def configured(file: Path | None) -> dict[str, StorageBackend]:
    """The storages of a configuration file. Raises :class:`NoStorage` where it has none."""
    source = str(file or os.environ.get(VARIABLE, ""))
    if not source:
        raise InvalidArgument(f"which cache? Name its file: --config FILE, or {VARIABLE}")
    found = storages_of(CacheConfig.from_yaml(source))
    if not found:
        raise NoStorage(f"{source}: no storage is behind this cache; coherence.mode names one")
    return found


@storage.command()
def init(
    triggers: Annotated[
        bool, typer.Option("--triggers", help="Also tell of changes by plain SQL.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the SQL, and do nothing.")
    ] = False,
    config: _ConfigFile = None,
    json: AsJson = False,
) -> None:
    """Make the tables where they are missing, and bring up to date what an older release made."""
    done: list[dict[str, Any]] = []
    for place, backend in configured(config).items():
        setup = make_setup(backend, SystemClock())
        statements = setup.statements(with_triggers=triggers)
        if not dry_run:
            asyncio.run(setup.init(with_triggers=triggers))
        done.append({"storage": place, "made": not dry_run, "statements": statements})
    if json:
        print_json({"storages": done})
        return
    for each in done:
        if dry_run:
            print_line(f"-- {each['storage']}")
            print_line("".join([f"{statement};\n" for statement in each["statements"]]), keep="\n")
        else:
            print_line(f"{each['storage']}: the tables are there")


@storage.command()
def status(config: _ConfigFile = None, json: AsJson = False) -> None:
    """Show how many rows are there, deleted, and waiting to be told."""
    found = {
        place: asyncio.run(_describe(backend)) for place, backend in configured(config).items()
    }
    if json:
        rows = {place: msgspec.to_builtins(info) for place, info in found.items()}
        print_json({"storages": rows})
        return
    table = plain_table("storage", "kind", "where", "rows", "deleted", "outbox", texts=3)
    for place, info in found.items():
        figures = [_figure(each) for each in (info.rows, info.deleted, info.outbox)]
        table.add_row(place, info.kind, info.name, *figures)
    console = make_console()
    console.print(table)
    for info in found.values():
        for problem in info.problems:
            console.print(problem, style="yellow", markup=False, soft_wrap=True)


async def _describe(backend: StorageBackend) -> StorageInfo:
    opened = make_storage(_as_it_is(backend), SystemClock())
    await opened.open()
    try:
        return await opened.describe()
    finally:
        await opened.aclose()


def _as_it_is(backend: StorageBackend) -> StorageBackend:
    """A look must not make tables."""
    return msgspec.structs.replace(backend, create=False)


def _figure(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"
