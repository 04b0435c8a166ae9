"""``cache status`` and ``cache regions``."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec

from clusterdb.cache import ByteSize

from ..protocols import BackendInfo, Member, ServerInfo
from ..units import format_seconds
from .figures import RegionFigures, regions_of
from .output import make_console, plain_table, print_json, safe
from .target import AsJson, ConfigFile, Url, on_view
from .view import View

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["others", "print_field", "regions", "size_text", "status"]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What ``cache status`` says. ``size`` is bytes on disk, where there is a file."""

    cache: str
    backend: str
    at: list[str]
    size: int | None
    hit_ratio: float | None
    regions: list[RegionFigures]
    servers: tuple[ServerInfo, ...]
    processes: list[Member]
    problems: tuple[str, ...]


async def _status(view: View) -> Status:
    seen = await view.overview()
    found, info = regions_of(seen), seen.backend
    hits = sum([each.totals.hits for each in found])
    reads = hits + sum([each.totals.misses for each in found])
    return Status(
        cache=seen.cache,
        backend=info.kind,
        at=view.at,
        size=info.size,
        hit_ratio=hits / reads if reads else None,
        regions=found,
        servers=info.servers,
        processes=others(info),
        problems=info.problems,
    )


def others(info: BackendInfo) -> list[Member]:
    """Who shares the backend, without this command itself."""
    own = socket.gethostname(), os.getpid()
    return [member for member in info.members if (member.host, member.pid) != own]


def status(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Show sizes, hit ratios, and the processes that use the cache. Counts as no read."""
    found = on_view(config, url, _status)
    if json:
        print_json(msgspec.to_builtins(found))
        return
    console = make_console()
    print_field(console, "cache", found.cache)
    print_field(console, "backend", " ".join([found.backend, *found.at]))
    if found.size is not None:
        print_field(console, "size", size_text(found.size))
    print_field(console, "hits", _percent(found.hit_ratio))
    table = plain_table("region", "items", "weight", "hits", "misses", "hit ratio")
    for each in found.regions:
        totals = each.totals
        counts = (
            _count(each.items),
            size_text(each.weight),
            f"{totals.hits:,}",
            f"{totals.misses:,}",
        )
        table.add_row(_named(each.name), *counts, _percent(each.hit_ratio))
    console.print(table)
    if found.servers:
        console.print(_server_table(found.servers))
    console.print(_process_table(found.processes) if found.processes else "no other process")
    for problem in found.problems:
        console.print(safe(problem), style="yellow", markup=False, soft_wrap=True)


def print_field(console: Console, name: str, value: str) -> None:
    """A line with a name and what it is."""
    console.print(f"{name:<9}{safe(value)}", markup=False, soft_wrap=True)


def _server_table(servers: tuple[ServerInfo, ...]) -> Table:
    from rich.text import Text

    columns = ("server", "role", "latency", "memory", "of", "evicted", "replicas (lag)")
    table = plain_table(*columns, texts=2)
    table.columns[0].no_wrap = True
    for each in servers:
        names = Text(safe(each.name)), Text(safe(each.role or "away"))
        if not each.role:
            table.add_row(*names)
            continue
        limit = size_text(each.max_memory) if each.max_memory else "no limit"
        lag = "" if each.lag is None else f" ({size_text(each.lag)})"
        counts = f"{each.evictions:,}", f"{each.replicas}{lag}"
        table.add_row(
            *names, f"{1000 * each.latency:.1f}ms", size_text(each.memory), limit, *counts
        )
    return table


def _process_table(processes: list[Member]) -> Table:
    from rich.text import Text

    columns = ("process", "program", "version", "started", "near hits", "lag", "heard of")
    table = plain_table(*columns, texts=3)
    for each in processes:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.started))
        said = (f"{each.host}:{each.pid}", each.program, each.version)
        lag = "" if each.figures.lag is None else f"{each.figures.lag:.1f}s"
        near = "" if each.figures.near_ratio is None else _percent(each.figures.near_ratio)
        heard = f"{max(each.silent, 0):.0f}s ago"
        table.add_row(*[Text(safe(text)) for text in said], started, near, lag, heard)
    return table


def regions(config: ConfigFile = None, url: Url = None, json: AsJson = False) -> None:
    """Show the regions: limits, contents, and what happened to them."""

    async def work(view: View) -> list[RegionFigures]:
        return regions_of(await view.overview())

    found = on_view(config, url, work)
    if json:
        print_json({"regions": msgspec.to_builtins(found)})
        return
    console = make_console()
    table = plain_table("region", "policy", "ttl", "items", "of", "weight", "of", texts=2)
    for each in found:
        table.add_row(
            _named(each.name),
            _named(each.policy),
            "no expiry" if each.ttl is None else format_seconds(each.ttl),
            _count(each.items),
            "no limit" if each.max_items is None else f"{each.max_items:,}",
            size_text(each.weight),
            "no limit" if each.max_memory is None else str(ByteSize(each.max_memory)),
        )
    console.print(table)
    table = plain_table("region", "hits", "misses", "hit ratio", *_HAPPENED)
    for each in found:
        row: list[Any] = [each.totals.hits, each.totals.misses]
        happened = [getattr(each.totals, name) for name in _HAPPENED]
        table.add_row(
            _named(each.name),
            *[f"{count:,}" for count in row],
            _percent(each.hit_ratio),
            *[f"{count:,}" for count in happened],
        )
    console.print(table)


_HAPPENED = ("sets", "deletes", "evictions", "expirations")


def _named(name: str) -> Text:
    """A name as it is, of whatever a server calls it."""
    from rich.text import Text

    return Text(safe(name))


def _count(items: int | None) -> str:
    """How many, where that is known."""
    return "?" if items is None else f"{items:,}"


def size_text(count: int | None) -> str:
    """About how many bytes, where that is known."""
    if count is None:
        return "?"
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _percent(ratio: float | None) -> str:
    return "no reads" if ratio is None else f"{100 * ratio:.1f}%"
