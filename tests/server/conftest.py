"""A cache to serve, and clients of it: in this process, and over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
from tests.server.serving import Served, serving

from clusterdb.cache import Cache, CacheConfig, CacheRegion
from clusterdb.cache.server import ServerSettings, make_app

Client = Callable[..., httpx.AsyncClient]
Serve = Callable[..., Awaitable[Served]]


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    config = CacheConfig(name="shop", regions=(CacheRegion("session", size="1MB", ttl="1h"),))
    async with Cache(config) as cache:
        yield cache


@pytest.fixture
async def client_of() -> AsyncIterator[Client]:
    """Makes clients that call the application in this process."""
    async with contextlib.AsyncExitStack() as stack:
        made: list[httpx.AsyncClient] = []

        def client(cache: Cache, **settings: object) -> httpx.AsyncClient:
            app = make_app(cache, ServerSettings(**settings))  # type: ignore[arg-type]
            made.append(
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app), base_url="http://localhost:8765"
                )
            )
            stack.push_async_callback(made[-1].aclose)
            return made[-1]

        yield client


@pytest.fixture
def client(cache: Cache, client_of: Client) -> httpx.AsyncClient:
    return client_of(cache, rate=None)


@pytest.fixture
async def serve(cache: Cache) -> AsyncIterator[Serve]:
    """Serves the cache on a free port until the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin(**settings: object) -> Served:
            chosen = ServerSettings(port=0, **settings)  # type: ignore[arg-type]
            return await stack.enter_async_context(serving(cache, chosen))

        yield begin
        await asyncio.sleep(0)
