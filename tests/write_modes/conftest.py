"""Worlds: each backend with each storage, all of them real."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from tests.redis.servers import Deployment, missing, start
from tests.storage.postgres import PostgresServer
from tests.write_modes.processes import Worker
from tests.write_modes.world import World

from clusterdb.cache.config import Disk, Memory, PostgreSQL, Redis, SQLite

BACKENDS = ["memory", "disk", "redis"]
STORAGES = ["sqlite", "postgres"]

needs_psql = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        callspec = getattr(item, "callspec", None)
        if callspec is not None and callspec.params.get("backend") == "redis":
            item.add_marker(pytest.mark.server)
        if callspec is not None and callspec.params.get("storage") == "postgres":
            item.add_marker(pytest.mark.server)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A Redis of this session's own."""
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    deployment = start("standalone", tmp_path_factory.mktemp("redis"))
    yield deployment
    deployment.stop()


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> object:
    """The configuration of an empty backend of the kind that the test asks for."""
    kind = getattr(request, "param", "memory")
    if kind == "memory":
        return Memory()
    if kind == "disk":
        return Disk(path=tmp_path / "cache.db")
    deployment: Deployment = request.getfixturevalue("redis_server")
    deployment.servers[0].cli("FLUSHALL")
    return Redis(urls=deployment.urls)


@pytest.fixture
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[object]:
    """The configuration of an empty storage of the kind that the test asks for."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield SQLite(path=tmp_path / "rows.db")
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    name = f"modes_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield PostgreSQL(url=postgres.url_of(name))
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    """Where a test keeps its processes, which end with it."""
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.end()


@pytest.fixture
async def world(backend: object, storage: object, tmp_path: Path) -> AsyncIterator[World]:
    async with World(backend, storage, str(tmp_path / "journals")) as made:
        yield made
