"""Caches on real backends that programs share, and whose entries look unused."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.maintenance.programs import Program
from tests.redis.servers import Deployment, missing, start

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.maintenance.scheduler import Duties

OLD = 8 * 86_400
"""For so many seconds nobody used an entry that is old."""


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    deployment = start("standalone", tmp_path_factory.mktemp("redis"))
    yield deployment
    deployment.stop()


@pytest.fixture
def programs() -> Iterator[Callable[[dict[str, Any]], Program]]:
    """Starts programs; what is left of them is killed at the end."""
    started: list[Program] = []

    def begin(config: dict[str, Any]) -> Program:
        started.append(Program(config))
        return started[-1]

    yield begin
    for program in started:
        program.kill()


class Shared:
    """A backend for several programs; ``settings`` are of its maintenance."""

    def __init__(self, backend: dict[str, Any], age: Callable[[list[str]], None]) -> None:
        self._backend = backend
        self.age = age

    def config(self, **settings: Any) -> dict[str, Any]:
        maintenance = {
            "schedule": "0 0 1 1 *",
            "tasks": [{"type": "cleanup", "older_than": "7d"}],
            "lease": 1,
            **settings,
        }
        return {"cache": {"name": "test", "backend": self._backend}, "maintenance": maintenance}

    def cache(self, duties: Duties = "none", **settings: Any) -> Cache:
        """A cache of this process, which looks on unless it has ``duties``."""
        cache = Cache(CacheConfig.from_dict(self.config(**settings)))
        cache.access.runtime.maintenance.duties = duties
        return cache


def on_disk(path: Path) -> Shared:
    def age(keys: list[str]) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany(
                "UPDATE entries SET rank = rank - ? WHERE key = ?",
                [(OLD * 1_000_000, key) for key in keys],
            )

    return Shared({"type": "disk", "path": str(path)}, age)


def on_redis(deployment: Deployment) -> Shared:
    [server] = deployment.servers

    def age(keys: list[str]) -> None:
        server.cli("EVAL", _AGE, "0", str(OLD), *[f"test:default:{key}" for key in keys])

    server.cli("FLUSHALL")
    return Shared({"type": "redis", "urls": deployment.urls}, age)


_AGE = """
for n = 2, #ARGV do
  redis.call('RESTORE', ARGV[n], 0, redis.call('DUMP', ARGV[n]), 'REPLACE', 'IDLETIME', ARGV[1])
end
"""


@pytest.fixture(params=["disk", pytest.param("redis", marks=pytest.mark.server)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Shared:
    if request.param == "disk":
        return on_disk(tmp_path / "cache.db")
    return on_redis(request.getfixturevalue("redis_server"))


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with Cache() as cache:
        yield cache
