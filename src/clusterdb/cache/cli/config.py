"""``cache config``: check a configuration file, and print the schema of one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from msgspec import structs

from clusterdb.cache import (
    Cache,
    CacheBackend,
    CacheConfig,
    CacheError,
    CacheRegion,
    ConfigError,
    Disk,
    InactiveSetting,
    Memory,
    MissingExtra,
    NotSupported,
    Redis,
)

from ..config.secrets import masked
from ..settings import DEFAULT_REGION, resolve_region
from ..units import format_seconds
from .output import fail, make_console, plain_table, print_json

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Summary", "check_file", "config", "places"]

config = typer.Typer(
    name="config", help="Check a configuration file, or print its schema.", no_args_is_help=True
)


class RegionSummary(msgspec.Struct, frozen=True):
    """What applies to one region; ``ttl`` in seconds, ``max_memory`` in bytes."""

    name: str
    policy: str
    max_items: int | None
    max_memory: int | None
    ttl: float | None


class Summary(msgspec.Struct, frozen=True):
    """What a configuration file says.

    ``at``: where the backend is, URLs without credentials. ``inactive``: settings that have
    no effect.
    """

    name: str
    backend: str
    at: list[str]
    regions: list[RegionSummary]
    inactive: list[str]


def check_file(path: Path) -> Summary:
    """Read a file and build a cache of it, without opening it. Raises :class:`ConfigError`."""
    settings = CacheConfig.from_yaml(path)
    regions = {region.name: region for region in settings.regions}
    regions = {DEFAULT_REGION: CacheRegion(DEFAULT_REGION)} | regions
    return Summary(
        name=settings.name,
        backend=str(settings.backend.__struct_config__.tag),
        at=places(settings.backend),
        regions=[_region(settings, region) for region in regions.values()],
        inactive=_inactive(settings),
    )


def _region(settings: CacheConfig, region: CacheRegion) -> RegionSummary:
    found = resolve_region(settings, region, None)
    return RegionSummary(found.name, found.policy, found.max_items, found.max_weight, found.ttl)


def places(backend: CacheBackend) -> list[str]:
    """Where a backend is: URLs without credentials, or a path."""
    if isinstance(backend, Redis):
        return [masked(url) for url in backend.urls]
    return [str(backend.path)] if isinstance(backend, Disk) else []


def _inactive(settings: CacheConfig) -> list[str]:
    """What a cache of these settings says has no effect."""
    found: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InactiveSetting)
        try:
            Cache(settings)
        except (NotSupported, MissingExtra) as error:
            found.append(str(error))
            Cache(structs.replace(settings, backend=Memory()))
    found += [str(seen.message) for seen in caught if issubclass(seen.category, InactiveSetting)]
    return found


@config.command()
def check(
    file: Annotated[Path, typer.Argument(help="A YAML file.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
) -> None:
    """Check a configuration file and say what it means. Exits 1 where it is wrong."""
    try:
        summary = check_file(file)
    except CacheError as error:
        path = error.path if isinstance(error, ConfigError) else ""
        if as_json:
            print_json({"ok": False, "file": str(file), "path": path, "error": str(error)})
        else:
            fail(str(error))
        raise typer.Exit(1) from None
    if as_json:
        print_json({"ok": True, "file": str(file), **msgspec.to_builtins(summary, enc_hook=int)})
    else:
        _show(file, summary)


def _show(file: Path, summary: Summary) -> None:
    console = make_console()
    console.print(f"{file}: valid", style="green", markup=False, soft_wrap=True)
    console.print(f"cache    {summary.name}", markup=False)
    backend = " ".join([summary.backend, *summary.at])
    console.print(f"backend  {backend}", markup=False, soft_wrap=True)
    console.print(region_table(summary.regions))
    if summary.inactive:
        console.print("without effect where they stand:", style="yellow")
        for message in summary.inactive:
            console.print(f"  - {message}", markup=False, soft_wrap=True)


def region_table(regions: list[RegionSummary]) -> Table:
    """Regions with limits and expiry, as a person reads them."""
    table = plain_table("region", "policy", "max items", "max memory", "ttl", texts=2)
    for region in regions:
        table.add_row(
            region.name,
            region.policy,
            "no limit" if region.max_items is None else f"{region.max_items:,}",
            "no limit" if region.max_memory is None else str(region.max_memory),
            "no expiry" if region.ttl is None else format_seconds(region.ttl),
        )
    return table


@config.command()
def schema() -> None:
    """Print the JSON Schema of a configuration file."""
    print_json(CacheConfig.json_schema())
