"""Valkey: what a user does with Redis works there as well, alone and in a Cluster."""

from __future__ import annotations

import asyncio

from tests.redis.backends import flush, opened
from tests.redis.test_permissions import everything, regions
from tests.redis.test_sharing import move

from clusterdb.cache import (
    BackendUnavailable,
    BatchError,
    Cache,
    CacheCoherence,
    CacheConfig,
    Redis,
    ReplicationConfig,
)
from clusterdb.cache.transport import slot_of


async def test_the_server_says_what_it_is(valkey):
    async with opened(valkey) as backend:
        [server] = (await backend.describe()).servers

    assert valkey.servers[0].info("server")["server_name"] == "valkey"
    assert server.version == valkey.servers[0].info("server")["valkey_version"]
    assert server.role == "master"


async def test_everything_on_one_server(valkey):
    flush(valkey)
    backend = Redis(urls=valkey.urls)
    await everything(CacheConfig(name="test", backend=backend, regions=regions(limits=True)))


async def test_everything_in_a_cluster_with_its_replicas(valkey_cluster):
    backend = Redis(urls=valkey_cluster.urls, cluster=True, read_replicas=True, max_replica_lag=0.2)
    replication = ReplicationConfig(mode="synchronous", factor=2, consistency="all")
    coherence = CacheCoherence(replication=replication, consistency="eventual")
    config = CacheConfig(name="test", backend=backend, coherence=coherence)
    await everything(config)
    async with Cache(config) as cache:
        await cache.set("k", 1)
        await asyncio.sleep(1)
        found = await cache.lookup("k")

    assert found
    assert found.value == 1
    assert 0 < found.age_bound <= 0.2


async def test_a_slot_that_moves_is_followed(valkey_cluster):
    """Its refusals are understood as those of Redis are."""
    flush(valkey_cluster)
    backend = Redis(urls=valkey_cluster.urls, cluster=True)
    async with Cache(CacheConfig(name="test", backend=backend)) as cache:
        keys = [f"{{moved}}:{number}" for number in range(50)]
        await cache.set_many(dict.fromkeys(keys, 1))
        await asyncio.to_thread(move, valkey_cluster, slot_of(b"{moved}"))

        assert await cache.get_many(keys) == dict.fromkeys(keys, 1)
        assert await cache.set_many(dict.fromkeys(keys, 2)) == len(keys)
        assert await cache.get_many(keys) == dict.fromkeys(keys, 2)


async def test_a_killed_primary_is_replaced(valkey_cluster):
    flush(valkey_cluster)
    backend = Redis(urls=valkey_cluster.urls, cluster=True)
    async with Cache(CacheConfig(name="test", backend=backend)) as cache:
        primary = valkey_cluster.servers[0]
        assert primary.info("replication")["role"] == "master"
        primary.kill()
        async with asyncio.timeout(30):
            while True:
                try:
                    await cache.set_many({str(number): number for number in range(100)})
                    break
                except (BackendUnavailable, BatchError):
                    await asyncio.sleep(0.1)

        assert len(await cache.get_many([str(number) for number in range(100)])) == 100
