"""The admin server, for the benchmark ``monitoring``: requests a second beside a bare Starlette
route, and how long its page takes in Chromium to be painted.

The servers are processes of their own, so that clients don't slow them down; run as a program this
file is one of them. Requests go over connections that stay, by a client that does no more than
write and read.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import import_module
from time import perf_counter_ns
from typing import Any

from _report import ROOT
from _rounds import Times, alternate

__all__ = ["BARE", "ENTRY", "ENTRY_AGAIN", "LOADED", "LOADED_AGAIN", "QUIET", "paints", "requests"]

BARE, ENTRY, ENTRY_AGAIN = "bare Starlette route", "GET .../entry", "GET .../entry again"
STATISTICS, ALIVE = "GET /v1/statistics", "GET /healthz"
PATHS = {
    BARE: "/bare",
    ENTRY: "/v1/regions/default/entry?key=key:1",
    ENTRY_AGAIN: "/v1/regions/default/entry?key=key:1",
    STATISTICS: "/v1/statistics",
    ALIVE: "/healthz",
}
LOADED, LOADED_AGAIN, QUIET = "under load", "under load again", "quiet"
CONNECTIONS = 8


@contextmanager
def _server(kind: str) -> Iterator[int]:
    """The port of a server in a process of its own."""
    words = [sys.executable, __file__, kind]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:  # noqa: S603 - this file
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def requests(count: int, rounds: int) -> Times:
    """Nanoseconds a request, with eight clients at once."""
    with _server("bare") as bare, _server("quiet") as ours:

        def subject(name: str, path: str) -> Callable[[], float]:
            port = bare if name == BARE else ours
            return lambda: asyncio.run(_hammer(port, path, count))

        return alternate({name: subject(name, path) for name, path in PATHS.items()}, rounds)


async def _hammer(port: int, path: str, count: int) -> float:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    each = count // CONNECTIONS
    begin = asyncio.Event()
    clients = [asyncio.create_task(_client(port, request, each, begin)) for _ in range(CONNECTIONS)]
    await asyncio.sleep(0.05)
    began = perf_counter_ns()
    begin.set()
    await asyncio.gather(*clients)
    return (perf_counter_ns() - began) / (each * CONNECTIONS)


async def _client(port: int, request: bytes, count: int, begin: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await begin.wait()
    for _ in range(count):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"{request!r} was answered by {head!r}")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
    writer.close()


def paints(rounds: int) -> tuple[Times, Times]:
    """Milliseconds until the page is painted, and until it shows figures, each in a new browser."""
    sys.path.insert(0, str(ROOT))  # the driver is that of the tests
    chromium = import_module("tests.server.chromium")
    if chromium.PROGRAM is None:
        raise SystemExit("chromium is missing: apt-get install chromium")
    figures: Times = {}
    with _server("busy") as busy, _server("quiet") as quiet:

        def subject(name: str, port: int) -> Callable[[], float]:
            def run() -> float:
                painted, shown = asyncio.run(_open(chromium.Browser(), port))
                figures.setdefault(name, []).append(shown)
                return painted

            return run

        ports = {LOADED: busy, LOADED_AGAIN: busy, QUIET: quiet}
        subjects = {name: subject(name, port) for name, port in ports.items()}
        painted = alternate(subjects, rounds, warm_up=False)
    return painted, figures


async def _open(browser: Any, port: int) -> tuple[float, float]:
    """When a page was painted, and when it showed figures; the browser ends with it."""
    try:
        async with browser.tab() as page:
            await page.go(f"http://127.0.0.1:{port}/")
            await page.until("document.body?.dataset.ready")
            paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
            painted = await page.until(paint)
            return painted, await page.run("performance.getEntriesByName('figures')[0].startTime")
    finally:
        browser.close()


# -- the servers


@asynccontextmanager
async def _cache(*, busy: bool) -> AsyncIterator[Any]:
    from clusterdb.cache import Cache
    from clusterdb.cache.server.demonstration import demo_cache, keep_busy

    async with demo_cache() if busy else Cache() as cache:
        if not busy:
            await cache.set_many({f"key:{number}": {"number": number} for number in range(1000)})
        load = asyncio.create_task(keep_busy(cache)) if busy else None
        try:
            yield cache
        finally:
            if load is not None:
                load.cancel()
                await asyncio.wait({load})


async def _serve(kind: str) -> None:
    from clusterdb.cache.server import ServerSettings, run

    if kind == "bare":
        await _serve_bare()
        return
    async with _cache(busy=kind == "busy") as cache:
        settings = ServerSettings(port=0, rate=None)
        await run(cache, settings, started=lambda url: _told(int(url.split(":")[2].strip("/"))))


async def _serve_bare() -> None:
    """The same answer as that of an entry, by the same server."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    fields = {"region": "default", "key": "key:1", "type": "json", "value": {"number": 1}}
    more = {"size": 13, "truncated": False, "version": 1, "expires_in": None, "tags": []}
    content = json.dumps(fields | more | {"age_bound": 0.0, "tier": "memory"}).encode()

    async def bare(_: Request) -> Response:
        return Response(content, media_type="application/json")

    app = Starlette(routes=[Route("/bare", bare)])
    config = uvicorn.Config(app, port=0, http="h11", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - it tells it in no other way
        await asyncio.sleep(0.01)
    _told(server.servers[0].sockets[0].getsockname()[1])
    await serving


def _told(port: int) -> None:
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1]))
