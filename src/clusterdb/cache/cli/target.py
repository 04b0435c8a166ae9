"""Which cache a command speaks to, and the options that say so.

``--config FILE`` or ``--url URL``; without them the file that ``CLUSTERDB_CACHE_CONFIG`` names;
without that one a disk cache in the user's data folder. A command opens it, works, and closes it.
``--url http://...`` is a cache that somebody serves (:mod:`.served`).
"""

from __future__ import annotations

import asyncio
import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import typer
from msgspec import structs

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheConfig,
    Disk,
    InactiveSetting,
    InvalidArgument,
    MaintenanceConfig,
    Memory,
    NotSupported,
    Region,
    UnknownRegion,
)

from ..config.secrets import masked
from ..config.shapes import nearest
from ..factory import stored_regions
from ..settings import DEFAULT_REGION
from .served import ServedView, Server
from .served_region import ServedRegion
from .view import OpenedView, View

__all__ = [
    "TOKEN",
    "VARIABLE",
    "AnyRegion",
    "AsJson",
    "ConfigFile",
    "RegionName",
    "Url",
    "configured",
    "data_file",
    "make_cache",
    "no_region",
    "on_cache",
    "on_region",
    "on_view",
    "own_cache",
    "region_in",
    "server_of",
]

T = TypeVar("T")

VARIABLE: Final = "CLUSTERDB_CACHE_CONFIG"
TOKEN: Final = "CLUSTERDB_CACHE_TOKEN"  # noqa: S105 - its name
"""The variable that holds the token of a server. No option does: all users see a command line."""

AnyRegion: TypeAlias = Region[Any] | ServedRegion

ConfigFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help=f"The YAML file of the cache; else the one that {VARIABLE} names.",
        show_default=False,
    ),
]
Url: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--url",
        help="The cache by URL: disk:///path/file.db, redis://host, http://host of a server.",
        show_default=False,
    ),
]
RegionName: TypeAlias = Annotated[
    str | None, typer.Option("--region", help="The region; else 'default'.", show_default=False)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Write JSON.")]


def data_file(platform: str, environ: Mapping[str, str], home: Path) -> Path:
    """Where the cache without configuration is, by the customs of the platform."""
    if platform == "win32":
        folder = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif Path(environ.get("XDG_DATA_HOME", "")).is_absolute():
        folder = Path(environ["XDG_DATA_HOME"])
    elif platform == "darwin":
        folder = home / "Library" / "Application Support"
    else:
        folder = home / ".local" / "share"
    return folder / "clusterdb" / "cache.db"


def configured(file: Path | None, url: str | None) -> tuple[CacheConfig, str, bool]:
    """The configuration that is meant, where it comes from, and whether it was chosen for want of
    any. Raises :class:`ConfigError`, and :class:`NotSupported` for a served one.
    """
    if file is not None and url is not None:
        raise InvalidArgument("--config and --url exclude each other: choose one")
    named = os.environ.get(VARIABLE, "")
    if server_of(file, url) is not None:
        raise NotSupported(
            f"this command does not work over HTTP ({masked(url or '')}): give --config, or the "
            f"URL of the backend"
        )
    if url is not None:
        return CacheConfig.from_url(url), masked(url), False
    if file is not None or named:
        source = str(file or named)
        return CacheConfig.from_yaml(source), source, False
    path = data_file(sys.platform, os.environ, Path.home())
    return CacheConfig(backend=Disk(path=path)), str(path), True


def make_cache(
    file: Path | None,
    url: str | None,
    *,
    may_create: bool = False,
    maintained: Callable[[CacheConfig], MaintenanceConfig] | None = None,
) -> Cache:
    """The cache that is meant, not opened. Raises :class:`ConfigError`, refuses one whose entries
    no other process can see, and a file that was named and is not there. It is maintained by its
    programs, and here only as ``maintained`` says.
    """
    config, source, usual = configured(file, url)
    if isinstance(config.backend, Memory):
        raise InvalidArgument(
            f"{source}: backend 'memory' lives inside the program that uses it, and ends with it; "
            f"commands work on a backend that processes share: configure backend 'disk'"
        )
    if isinstance(config.backend, Disk) and not (may_create or usual):
        path = Path(config.backend.path).expanduser()
        if not path.exists() and not path.is_symlink():
            raise BackendUnavailable(
                f"there is no cache file {str(path)!r}: programs make it, and so does 'cache set'"
            )
    maintenance = None if maintained is None else maintained(config)
    config = structs.replace(config, maintenance=maintenance)
    with warnings.catch_warnings():  # `cache config check` tells them
        warnings.simplefilter("ignore", InactiveSetting)
        # what was hot is told by the programs, not by a command
        cache = Cache(structs.replace(_as_stored(config), warm_start=None))
    cache.access.runtime.maintenance.duties = "none"  # a command starts nothing by itself
    return cache


def own_cache(file: Path | None, url: str | None) -> Cache:
    """The cache that is meant, not opened, for a command that is a program of its own: it may live
    in this process, and is made where there is none.
    """
    config, _, _ = configured(file, url)
    return Cache(_as_stored(config))


def server_of(file: Path | None, url: str | None) -> Server | None:
    """The server that a URL names, if it names one."""
    if url is None or not url.lower().startswith(("http://", "https://")):
        return None
    if file is not None:
        raise InvalidArgument("--config and --url exclude each other: choose one")
    token = os.environ.get(TOKEN, "").strip()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidArgument(
            f"{TOKEN} holds no token, which is a word of visible ASCII characters"
        )
    return Server(url, token or None)


def _as_stored(config: CacheConfig) -> CacheConfig:
    """The regions of a cache file keep the limits that its programs gave them: a command must not
    evict what a program wants to keep.
    """
    found = stored_regions(config)
    default = found.pop(DEFAULT_REGION, None)
    policy, regions = config.policy, {region.name: region for region in config.regions}
    if default is not None and default.policy is not None:
        policy = structs.replace(policy, eviction=default.policy)
    for name, region in found.items():
        known = regions.get(name, region)
        regions[name] = structs.replace(known, policy=region.policy, size=None)
    return structs.replace(config, policy=policy, regions=tuple(regions.values()))


def on_cache(
    file: Path | None,
    url: str | None,
    work: Callable[[Cache], Awaitable[T]],
    *,
    may_create: bool = False,
) -> T:
    """Open the cache, do the work, close it. ``may_create``: where there is none, make it."""
    cache = make_cache(file, url, may_create=may_create)

    async def session() -> T:
        async with aclosing(cache):  # also where it can't be opened
            await cache.start()
            return await work(cache)

    return asyncio.run(session())


def on_view(file: Path | None, url: str | None, work: Callable[[View], Awaitable[T]]) -> T:
    """Look at the cache, which a server may have."""
    server = server_of(file, url)
    if server is not None:
        return _run(work(ServedView(server)))
    return on_cache(file, url, lambda cache: work(OpenedView(cache)))


def on_region(
    file: Path | None,
    url: str | None,
    name: str | None,
    work: Callable[[AnyRegion], Awaitable[T]],
    *,
    may_create: bool = False,
) -> T:
    """The same for one region, which a server may have. Raises :class:`InvalidArgument` with the
    nearest name for one that is not there.
    """
    server = server_of(file, url)
    if server is not None:
        return _run(work(ServedRegion(server, name)))

    async def in_region(cache: Cache) -> T:
        return await work(cache if name is None else region_in(cache, name))

    return on_cache(file, url, in_region, may_create=may_create)


def _run(working: Awaitable[T]) -> T:
    async def session() -> T:
        return await working

    return asyncio.run(session())


def region_in(cache: Cache, name: str) -> Region[Any]:
    """A region of a cache. Raises :class:`InvalidArgument` with the nearest name."""
    try:
        return cache.region(name)
    except UnknownRegion:
        raise no_region(name, cache.regions) from None


def no_region(name: str, known: Collection[str]) -> InvalidArgument:
    """The error of a region that is not there, with the nearest name."""
    return InvalidArgument(
        f"no region {name!r} - {nearest(name, known)}; "
        f"regions are named in a configuration file: --config, or {VARIABLE}"
    )
