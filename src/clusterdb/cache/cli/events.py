"""``cache events tail``."""

from __future__ import annotations

import asyncio
import json as encoder
import sys
import time
from itertools import islice
from typing import Annotated, Any, Union

import msgspec
import typer

from clusterdb.cache import Cache, Event, InvalidArgument, Redis, Subscription

from ..config.shapes import nearest
from ..events.types import every_kind
from ..units import seconds
from .output import print_line, safe
from .served import Server
from .target import AsJson, ConfigFile, Url, no_region, on_cache, server_of

__all__ = ["events"]

events = typer.Typer(name="events", help="What happens in the cache.", no_args_is_help=True)

_FOLLOWING = "cache: following; Ctrl-C ends it\n"
_NO_CHANNEL = (
    "cache: no channel is configured (invalidation.notification, or ?channel=NAME in the URL): "
    "what other processes do is not heard\n"
)
_NAMED = "key", "tag", "pattern", "node", "circuit", "text"


@events.callback()
def _events() -> None:
    """What happens in the cache."""


@events.command()
def tail(
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many.", show_default=False)
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--for", help="End after: 10s, 5m.", show_default=False)
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Of this kind: set, delete, invalidate; may be given again."),
    ] = None,
    region: Annotated[
        str | None, typer.Option("--region", help="Of this region.", show_default=False)
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Of keys that match: user:*", show_default=False)
    ] = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Show what any process does to the cache, as it happens; with --json an object a line.

    Example: cache events tail --kind set --kind delete --region session --key 'user:*'
    """
    kinds = _kinds(kind or [])
    limit = None if duration is None else seconds(duration)
    if limit == 0:
        raise InvalidArgument(f"--for is above 0 seconds, not {duration!r}")

    server = server_of(config, url)
    if server is not None:
        _follow_served(server, _query(kind or [], region, key), limit, count, as_json=json)
        return

    async def work(cache: Cache) -> None:
        if region is not None and region not in cache.regions:
            raise no_region(region, cache.regions)
        events = cache.subscribe(*kinds, region=region, pattern=key)
        try:
            async with asyncio.timeout(limit):
                await _follow(cache, events, count, json)
        except TimeoutError:
            return

    on_cache(config, url, work)


def _kinds(names: list[str]) -> list[type[Event]]:
    """The kinds of events of these names; losses are told whatever is chosen."""
    known = every_kind()
    for name in names:
        if name not in known:
            raise InvalidArgument(
                f"no kind of event is called {name!r} - {nearest(name, known)}; "
                f"known are {', '.join(known)}"
            )
    return [known[name] for name in names]


def _query(kinds: list[str], region: str | None, key: str | None) -> dict[str, str | list[str]]:
    query: dict[str, str | list[str]] = {"kind": kinds}
    return (
        query
        | ({} if region is None else {"region": region})
        | ({} if key is None else {"key": key})
    )


def _follow_served(
    server: Server,
    query: dict[str, str | list[str]],
    limit: float | None,
    count: int | None,
    *,
    as_json: bool,
) -> None:
    """What the server tells, which is what happens in its process, and what it hears of others."""
    any_event: Any = Union[tuple(every_kind().values())]  # noqa: UP007 - of classes in a table
    events = server.follow("/v1/events", any_event, query, limit, _begun)
    for event in islice(events, count):
        _tell(event, as_json=as_json)


async def _follow(
    cache: Cache, events: Subscription[Event], count: int | None, as_json: bool
) -> None:
    told = 0
    config = cache.config
    if isinstance(config.backend, Redis) and (
        config.invalidation is None or config.invalidation.notification is None
    ):
        sys.stderr.write(_NO_CHANNEL)
    async with events as happening:
        _begun()
        async for event in happening:
            _tell(event, as_json=as_json)
            told += 1
            if told == count:
                return


def _begun() -> None:
    sys.stderr.write(_FOLLOWING)
    sys.stderr.flush()


def _tell(event: Event, *, as_json: bool) -> None:
    fields = msgspec.to_builtins(event)
    print_line(encoder.dumps(fields) if as_json else _line(fields))


def _line(fields: dict[str, Any]) -> str:
    """Time, kind, region, key or tag, and who it was."""
    at = time.strftime("%H:%M:%S", time.localtime(fields["time"]))
    milliseconds = int(fields["time"] % 1 * 1000)
    named = [fields[name] for name in _NAMED if name in fields]
    what = safe(str(named[0]) if named else "")
    if fields["kind"] == "gap":
        what = f"{fields['count'] or 'some'} events were lost ({fields['reason']})"
    kind, region = fields["kind"], fields.get("region") or "-"
    return f"{at}.{milliseconds:03}  {kind:<15} {region:<12} {what}  {fields['origin']}"
