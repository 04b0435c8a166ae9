"""``cache advise``: what a trace says of the size and the policy that a cache should have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from clusterdb.cache import InvalidArgument, NotSupported

from ..advice import Advice
from ..advice import advise as look_at
from ..config.secrets import masked
from ..entries import Entry
from ..policy import POLICIES
from ..profile import Profile
from ..replay import replay
from ..settings import DEFAULT_REGION
from .output import make_console, plain_table, print_json, safe
from .served import ServedView
from .simulate import TRACE_HELP, size_in
from .target import AsJson, RegionName, server_of
from .traces import read_requests

__all__ = ["advice_on", "advise"]

_BARS: Final = 12


def advise(
    trace: Annotated[Path | None, typer.Argument(help=TRACE_HELP, show_default=False)] = None,
    size: Annotated[
        str, typer.Option("--size", help="The size in mind: entries, or a share of keys as 5%.")
    ] = "10%",
    policy: Annotated[str, typer.Option("--policy", help="The policy in mind.")] = "adaptive",
    region: RegionName = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="http://host of a server, instead of a trace.", show_default=False
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Say what other sizes and policies would do for the requests of a trace, and what those are
    like: hot keys, scans, loops. A cache that is served says the same of itself, by --url; one in
    your program by `await cache.advise()`.
    """
    if (trace is None) == (url is None):
        raise InvalidArgument("give a trace, or --url with a server: one of the two")
    if trace is not None:
        found, sample = _of_trace(trace, size, policy)
    else:
        found, sample = _of_server(url, region or DEFAULT_REGION), None
    if json:
        print_json({**msgspec.to_builtins(found), "sample": sample})
    else:
        _show(found)


def _of_server(url: str | None, region: str) -> Advice:
    server = server_of(None, url)
    if server is None:
        raise NotSupported(
            f"{masked(url or '')} is no server: only a program that reads knows its reads; let it "
            f"serve its cache (cache serve, make_app), or record a trace: cache record"
        )
    return asyncio.run(ServedView(server).advice(region))


def _of_trace(trace: Path, size: str, policy: str) -> tuple[Advice, float]:
    if policy not in POLICIES:
        raise InvalidArgument(f"there is no policy {policy!r}: known are {', '.join(POLICIES)}")
    requests, sample = read_requests(trace)
    entries = size_in(size, len(set(requests)))
    return advice_on(trace.name, requests, policy, entries), sample


def advice_on(name: str, requests: Sequence[str], policy: str, entries: int) -> Advice:
    """The advice that a cache of so many entries would give after ``requests``."""
    hits = replay(requests, policy, entries)
    profile = Profile()
    known: dict[str, Entry] = {}
    for key in requests:
        entry = known.get(key)
        if entry is None:
            entry = known[key] = Entry(key, None)
            profile.came(entry)
            continue
        profile.passed([entry])
        if entry.watched:
            profile.hit(entry)
    return look_at(name, policy, entries, hits / len(requests), profile)


def _show(found: Advice) -> None:
    console = make_console()
    head = f"{safe(found.region)}: {safe(found.policy)}, {found.size:,} entries"
    console.print(head, markup=False)
    console.print(f"hit ratio {found.hit_ratio:.1%}; {found.sampled:,} sampled requests\n")
    if not found.curve:
        console.print("Too few requests for advice: at least 500 of sampled keys are needed.")
        return
    from rich.text import Text

    from .demo.plot import Bars  # brings rich, which the plain commands start without

    step = max(1, len(found.curve) // _BARS)
    points = [*found.curve[::step], found.curve[-1]]
    console.print(Bars([(f"{size:,}", [("LRU", ratio)]) for size, ratio in points]))
    console.print()
    table = plain_table("policy", "hit ratio on the sample", texts=1)
    for name, ratio in sorted(found.policies.items(), key=lambda item: -item[1]):
        table.add_row(Text(safe(name)), f"{ratio:.1%}")
    console.print(table)
    for line in sentences(found):
        console.print(f"- {safe(line)}", markup=False)


def sentences(found: Advice) -> list[str]:
    """What the figures mean."""
    at = ", ".join(f"{name} {ratio:.1%}" for name, ratio in found.at.items())
    said = [f"at other sizes (LRU): {at}"]
    if found.enough is not None:
        said.append(f"from {found.enough:,} entries on, doubling the size gains less than 1%")
    if found.better is not None:
        said.append(f"{found.better} would hit {found.gain:.1%} more of the requests")
    if found.loop is not None:
        said.append(f"a loop: some {found.loop:,} keys are asked for round and round")
    if found.scan is not None:
        said.append(f"scans: {found.scan:.0%} of the requests were the first of their key")
    if found.hot_keys:
        hot = ", ".join(f"{key} {share:.1%}" for key, share in found.hot_keys[:5])
        said.append(f"hot keys, with their share of the hits: {hot}")
    return said
