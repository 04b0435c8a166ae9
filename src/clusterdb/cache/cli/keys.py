"""``cache keys hot``: the keys that programs read most.

A command is a process of its own and has seen no read of another. A Redis can tell every command it
carries out, so reads are counted there, exactly, for a while; of those the near tiers answer it
knows nothing, so that a key which is hot in every process may be missing. A server's own estimate
(``OBJECT FREQ``) was rejected: it is there under LFU only, and takes a look at every key. A memory
backend and a file are read inside of their programs: there ``await cache.advise()`` tells.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from contextlib import suppress
from typing import Annotated, Any, Final

import msgspec
import typer

from clusterdb.cache import InvalidArgument, NotSupported, Redis

from ..clock import SystemClock
from ..factory import make_reads
from ..patterns import Reads
from ..settings import DEFAULT_REGION
from ..units import seconds
from .output import make_console, plain_table, print_json, safe
from .target import AsJson, ConfigFile, RegionName, Url, configured, no_region

__all__ = ["HotKeys", "Tally", "keys"]

_COST: Final = (
    "cache: MONITOR sends every command of the server here: it may do half as much meanwhile. Reads"
    " that the near tier of a program answers never reach the server, and are not counted\n"
)
_BEGUN: Final = "cache: counting; Ctrl-C ends it sooner\n"
_MOST: Final = 100_000

keys = typer.Typer(name="keys", help="The keys that are read.", no_args_is_help=True)


class HotKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The most read keys, each with how often it was read and its share of all ``reads``.
    ``exact``: no key was left out of the count, which happens beyond 100,000 of them.
    """

    region: str
    seconds: float
    reads: int
    exact: bool
    keys: list[tuple[str, int, float]]


class Tally:
    """Counts of keys, in bounded memory: beyond ``most`` the half that was read least is forgotten,
    and counted anew where it comes again.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._counts: Counter[bytes] = Counter()
        self.reads = 0
        self.exact = True

    def heard(self, key: bytes) -> None:
        """A key was read."""
        self.reads += 1
        self._counts[key] += 1
        if len(self._counts) > self._most:
            self.exact = False
            self._counts = Counter(dict(self._counts.most_common(self._most // 2)))

    def hottest(self, count: int) -> list[tuple[str, int, float]]:
        """The ``count`` keys that were read most, with their reads and their share."""
        return [
            (_read(key), reads, reads / self.reads)
            for key, reads in self._counts.most_common(count)
        ]


@keys.callback()
def _keys() -> None:
    """The keys that are read."""


@keys.command()
def hot(
    duration: Annotated[str, typer.Option("--for", help="Count for so long: 5s, 1m.")] = "10s",
    count: Annotated[int, typer.Option("--count", min=1, help="Show so many.")] = 10,
    region: RegionName = None,
    config: ConfigFile = None,
    url: Url = None,
    json: AsJson = False,
) -> None:
    """Count which keys of a region programs read most from Redis, for a while. The server is asked
    to tell every command it carries out, which costs it much; hits of near tiers it never sees.

    Example: cache keys hot --url redis://localhost:6379 --for 5s
    """
    lasting = seconds(duration)
    if lasting == 0:
        raise InvalidArgument(f"--for is above 0 seconds, not {duration!r}")
    chosen, _, _ = configured(config, url)
    known = [DEFAULT_REGION, *[each.name for each in chosen.regions]]
    name = region or DEFAULT_REGION
    if name not in known:
        raise no_region(name, known)
    if not isinstance(chosen.backend, Redis):
        raise NotSupported(
            f"backend {chosen.backend.__struct_config__.tag!r} is read inside of the programs that "
            f"use it, where no command can look: (await cache.advise({name!r})).hot_keys in one of "
            f"them says it"
        )
    sys.stderr.write(_COST)
    tally = Tally()
    with suppress(KeyboardInterrupt):
        asyncio.run(_count(make_reads(chosen, name, SystemClock()), lasting, tally))
    hottest = tally.hottest(count)
    if json:
        found = HotKeys(
            region=name, seconds=lasting, reads=tally.reads, exact=tally.exact, keys=hottest
        )
        print_json(msgspec.to_builtins(found))
        return
    console = make_console()
    table = plain_table("key", "reads", "share", texts=1)
    for key, reads, share in hottest:
        table.add_row(_text(key), f"{reads:,}", f"{share:.1%}")
    console.print(table if hottest else f"no read of region {name} reached the servers")


def _text(key: str) -> Any:
    from rich.text import Text

    return Text(safe(key))


async def _count(reads: Reads, lasting: float, tally: Tally) -> None:
    try:
        await reads.open()
        sys.stderr.write(_BEGUN)
        sys.stderr.flush()
        async with asyncio.timeout(lasting):
            await reads.listen(tally.heard)
    except TimeoutError:
        pass
    finally:
        await reads.aclose()


def _read(key: bytes) -> str:
    """A key as its program has it, of one as ``MONITOR`` writes it: with what is not printable
    escaped.
    """
    raw = key.decode("unicode_escape").encode("latin-1")
    return raw.decode(errors="backslashreplace")
