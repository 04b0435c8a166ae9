"""The specification's sample of cache coherence, on a real database and real Redis servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from tests.redis.servers import HOST, Server, missing, wait_until
from tests.storage.postgres import PostgresServer

from clusterdb.cache import (
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    ConfigError,
    Degraded,
    WriteOptions,
)
from clusterdb.cache.config import (
    PoolConfig,
    PostgreSQL,
    Redis,
    ReplicationConfig,
    SQLite,
    WriteThrough,
)

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(bool(missing()), reason="redis-server is not installed"),
]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """A primary and its replica."""
    place = tmp_path_factory.mktemp("replicated")
    primary = Server(place / "primary").start()
    replica = Server(place / "replica", ["--replicaof", HOST, str(primary.port)]).start()
    wait_until(lambda: primary.replicates(1), "a replica that takes writes")
    yield primary, replica
    replica.kill()
    primary.kill()


@pytest.fixture
async def url(postgres: PostgresServer) -> AsyncIterator[str]:
    name = f"specified_{uuid4().hex[:12]}"
    connection = await asyncpg.connect(postgres.url)
    await connection.execute(f"CREATE DATABASE {name}")
    yield postgres.url_of(name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


def sample(url: str) -> CacheCoherence:
    pool = PoolConfig(min_connections=5, max_connections=20)
    return CacheCoherence(
        mode=WriteThrough(backend=PostgreSQL(url=url, table="cache_storage", pool=pool)),
        consistency="strong",
        invalidation="immediate",
        replication=ReplicationConfig(mode="synchronous", factor=2, consistency="quorum"),
    )


async def test_the_sample_of_cache_coherence(url: str, servers: tuple[Server, Server]):
    primary, replica = servers
    redis = Redis(urls=[f"redis://{HOST}:{primary.port}"], pool=PoolConfig(timeout=1.0))
    cache = Cache(CacheConfig(backend=redis))
    await cache.configure_coherence(sample(url))
    async with cache:
        admin = await asyncpg.connect(url)
        opened = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert await admin.fetchval(opened) >= 5 + 1, "the pool's least, and ours"

        options = WriteOptions(sync=True, consistency="strong")
        await cache.write_through("key", "value", options=options)

        found = await admin.fetch("SELECT key, row_version FROM cache_storage")
        assert found == [("key", 1)]
        assert await cache.get("key") == "value"
        assert "key" in replica.cli("KEYS", "*")
        replica.freeze()
        try:
            with pytest.raises(Degraded):
                await cache.write_through("key", "other", options=options)
        finally:
            replica.thaw()
        assert await admin.fetchval("SELECT max(row_version) FROM cache_storage") == 1
        await admin.close()


async def test_the_mode_is_named_before_the_first_use(tmp_path: Path):
    """In memory too, where a storage turns objects into bytes, and for regions that are there.
    What else coherence says may change while the cache runs.
    """
    cache = Cache(CacheConfig(regions=[CacheRegion("users")]))
    users = cache.region("users")
    mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    await cache.configure_coherence(CacheCoherence(mode=mode))
    async with cache:
        await users.set("k", {"a": 1})
        await cache.set("k", 2)
        await cache.invalidate("k")
        await users.invalidate("k")
        assert (await users.get("k"), await cache.get("k")) == ({"a": 1}, 2)
        with pytest.raises(ConfigError, match="build a new Cache"):
            await cache.configure_coherence(CacheCoherence())
