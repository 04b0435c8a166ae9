"""A fresh database for each test; and a server for those who mistreat it."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from tests.storage.postgres import PostgresServer, start

pytest.register_assert_rewrite("clusterdb.cache.testing.storage")


@pytest.fixture
async def database(postgres: PostgresServer) -> AsyncIterator[str]:
    """The URL of an empty database."""
    name = f"test_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.url_of(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
def server(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A server of the test's own, to be stopped and started; after the session's, which skips."""
    fresh = start()
    yield fresh
    fresh.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage of either database, as `tests.storage.worker` reads it."""
    if request.param == "sqlite":
        return json.dumps({"path": str(tmp_path / "storage.db")})
    return json.dumps({"url": request.getfixturevalue("database")})
