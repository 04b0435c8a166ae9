"""``cache top``: what happens in a cache now, by region, server and process.

A backend is asked every few seconds, and rates are differences between two looks. A file has the
totals of all processes by region. Redis has none: there the processes tell how many reads they had,
every five seconds, so their rates lag as much.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from clusterdb.cache import InvalidArgument

from ..protocols import BackendInfo, Member, RegionInfo
from ..units import seconds
from .output import is_terminal, make_console, plain_table, print_line, safe
from .status import others, size_text
from .target import AsJson, ConfigFile, Url, on_view
from .view import View

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = ["Busy", "Fleet", "Look", "Pace", "changes_since", "top"]

_LEAST: Final = 0.1


class Busy(msgspec.Struct, frozen=True, kw_only=True):
    """A region between two looks: so many a second. ``hit_ratio`` is of the reads in between,
    ``None`` where there were none.
    """

    name: str
    items: int | None
    reads: float
    hit_ratio: float | None
    sets: float
    invalidations: float
    evictions: float


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A server: ``latency`` in seconds, ``memory`` in bytes, and evictions a second."""

    name: str
    latency: float
    memory: int
    max_memory: int
    clients: int
    evictions: float


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """A process: its reads a second, the share that its near tier answered, its lag in seconds."""

    process: str
    program: str
    reads: float
    near_ratio: float | None
    lag: float | None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What ``cache top`` shows at one moment: ``time`` is seconds since the Unix epoch, ``over``
    how many seconds the rates are over, 0 at the first look, which has none.
    """

    time: float
    over: float
    regions: list[Busy]
    servers: list[Pace]
    processes: list[Fleet]
    problems: tuple[str, ...]


def changes_since(before: BackendInfo | None, now: BackendInfo, over: float, at: float) -> Look:
    """What happened between two looks that were ``over`` seconds apart."""
    known = {} if before is None else before.regions
    servers = {} if before is None else {each.name: each for each in before.servers}
    members = {} if before is None else {_who(each): each for each in before.members}
    return Look(
        time=at,
        over=over,
        regions=[_busy(name, known.get(name), each, over) for name, each in now.regions.items()],
        servers=[
            Pace(
                name=each.name,
                latency=each.latency,
                memory=each.memory,
                max_memory=each.max_memory,
                clients=each.clients,
                evictions=_rate(
                    getattr(servers.get(each.name), "evictions", None), each.evictions, over
                ),
            )
            for each in now.servers
            if each.role
        ],
        processes=[_fleet(members.get(_who(each)), each, over) for each in others(now)],
        problems=now.problems,
    )


def _rate(before: int | None, now: int, over: float) -> float:
    """So many a second; 0 where there was no look before, and after a counter began anew."""
    return max(0, now - before) / over if before is not None and over > 0 else 0.0


def _busy(name: str, before: RegionInfo | None, now: RegionInfo, over: float) -> Busy:
    counted = now.totals or now.counters
    known = None if before is None else before.totals or before.counters

    def rate(field: str) -> float:
        old = None if known is None else getattr(known, field)
        return _rate(old, getattr(counted, field), over)

    hits = rate("hits") + rate("stale_hits")
    reads = hits + rate("misses")
    return Busy(
        name=name,
        items=now.items,
        reads=reads,
        hit_ratio=hits / reads if reads else None,
        sets=rate("sets"),
        invalidations=rate("invalidations") + rate("deletes"),
        evictions=rate("evictions"),
    )


def _fleet(before: Member | None, now: Member, over: float) -> Fleet:
    old = None if before is None else before.figures
    near = _rate(None if old is None else old.near_hits, now.figures.near_hits, over)
    rest = _rate(None if old is None else old.near_misses, now.figures.near_misses, over)
    return Fleet(
        process=f"{now.host}:{now.pid}",
        program=now.program,
        reads=near + rest,
        near_ratio=now.figures.near_ratio,
        lag=now.figures.lag,
    )


def _who(member: Member) -> tuple[str, int, float]:
    return member.host, member.pid, member.started


def top(
    interval: Annotated[
        str, typer.Option("--interval", help="Between two looks: 500ms, 2s.")
    ] = "2s",
    once: Annotated[
        bool, typer.Option("--once", help="End after one interval; for scripts.")
    ] = False,
    duration: Annotated[
        str | None, typer.Option("--for", help="End after: 10s, 5m.", show_default=False)
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Show what happens in the cache, live, until Ctrl-C; with --json an object a line.

    Example: cache top --url redis://localhost:6379 --once --json
    """
    pause = seconds(interval)
    if pause < _LEAST:
        raise InvalidArgument(f"--interval is {_LEAST:g} seconds or more, not {interval!r}")
    limit = pause if once else math.inf if duration is None else seconds(duration)
    on_view(config, url, lambda view: _follow(view, pause, limit, as_json=json))


async def _follow(view: View, pause: float, limit: float, *, as_json: bool) -> None:
    """Look every ``pause`` seconds, until ``limit`` seconds are over."""
    before, began = (await view.overview()).backend, time.monotonic()
    end = began + limit
    with _screen(live=limit > pause and not as_json and is_terminal()) as screen:
        while True:
            await asyncio.sleep(pause)
            seen, moment = await view.overview(), time.monotonic()
            look = changes_since(before, seen.backend, moment - began, time.time())
            before, began = seen.backend, moment
            if as_json:
                print_line(msgspec.json.encode(look).decode())
            elif screen is not None:
                screen.update(_drawn(seen.cache, look), refresh=True)
            else:
                make_console().print(_drawn(seen.cache, look))
            if moment + pause / 2 > end:
                return


def _screen(*, live: bool) -> AbstractContextManager[Live | None]:
    """What is drawn again in its place, on a terminal."""
    if not live:
        return nullcontext()
    from rich.live import Live

    return Live(console=make_console(), auto_refresh=False)


def _drawn(name: str, look: Look) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    at = time.strftime("%H:%M:%S", time.localtime(look.time))
    head = Text(f"{safe(name)}  {at}  a second, over {look.over:.1f} s")
    columns = ("region", "items", "reads", "hit ratio", "sets", "invalidated", "evicted")
    rows = [
        (
            each.name,
            "?" if each.items is None else f"{each.items:,}",
            _number(each.reads),
            _share(each.hit_ratio),
            *map(_number, (each.sets, each.invalidations, each.evictions)),
        )
        for each in look.regions
    ]
    parts: list[Any] = [head, _table(columns, rows)]
    if look.servers:
        parts.append(_table(("server", "latency", "memory", "clients", "evicted"), _servers(look)))
    if look.processes:
        of_processes = ("process", "program", "reads", "near hits", "lag")
        parts.append(_table(of_processes, _processes(look), texts=2))
    parts += [Text(safe(problem), style="yellow") for problem in look.problems]
    return Group(*parts)


def _servers(look: Look) -> list[Sequence[str]]:
    return [
        (
            each.name,
            f"{1000 * each.latency:.1f}ms",
            size_text(each.memory)
            + (f" of {size_text(each.max_memory)}" if each.max_memory else ""),
            f"{each.clients:,}",
            _number(each.evictions),
        )
        for each in look.servers
    ]


def _processes(look: Look) -> list[Sequence[str]]:
    return [
        (
            each.process,
            each.program,
            _number(each.reads),
            _share(each.near_ratio),
            "" if each.lag is None else f"{each.lag:.1f}s",
        )
        for each in look.processes
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> RenderableType:
    from rich.text import Text

    table = plain_table(*columns, texts=texts)
    for row in rows:
        table.add_row(*[Text(safe(text)) for text in row])
    return table


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def _share(ratio: float | None) -> str:
    return "" if ratio is None else f"{100 * ratio:.1f}%"
