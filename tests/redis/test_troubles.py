"""Each trouble of the specification's table, made on a real server, and what is said of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.redis.proxy import FaultProxy
from tests.redis.servers import Server, wait_until

from clusterdb.cache import (
    BatchError,
    Cache,
    CacheCoherence,
    CacheConfig,
    Health,
    HealthCheck,
    PoolConfig,
    Redis,
    ReplicationConfig,
)
from clusterdb.cache.cli import main


def config_of(port: int, **settings) -> CacheConfig:
    pool = PoolConfig(timeout=5, connect_timeout=2)
    user = {name: settings.pop(name) for name in ("username", "password") if name in settings}
    backend = Redis(urls=[f"redis://127.0.0.1:{port}"], pool=pool, **user)
    return CacheConfig(name="shop", backend=backend, **settings)


@pytest.fixture
def doctor(capsys) -> Callable[..., tuple[list[dict], str]]:
    """The warnings of ``cache doctor``, and its text."""

    def run(url: str) -> tuple[list[dict], str]:
        capsys.readouterr()
        assert main(["doctor", "--url", url, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert main(["doctor", "--url", url]) == 0
        return [each for each in said["checks"] if each["warning"]], capsys.readouterr().out

    return run


async def health_with(cache: Cache, name: str) -> tuple[Health, HealthCheck]:
    """The health as soon as it has a check of that name."""
    async with asyncio.timeout(10):
        while True:
            health = await cache.get_health()
            found = [check for check in health.checks if check.name == name]
            if found:
                return health, found[0]
            await asyncio.sleep(0.01)


async def test_a_full_server_is_out_of_memory(server: Server, doctor):
    server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.cli("CONFIG", "SET", "maxmemory", "4mb")
    async with Cache(config_of(server.port)) as cache:
        assert (await cache.get_health()).checks[-1].name == "backend"
        with pytest.raises(BatchError, match="maxmemory"):
            await cache.set_many({f"k{number}": b"x" * 20_000 for number in range(500)})
        health, check = await health_with(cache, "memory")

    assert (health.status, health.live, health.ready) == ("degraded", True, True)
    assert check.detail.startswith("Out of memory: ")
    assert "refuses writes" in check.detail
    assert "raise maxmemory" in check.remedy
    warnings, text = await asyncio.to_thread(doctor, f"redis://127.0.0.1:{server.port}")
    [found] = [each for each in warnings if each["name"] == "Out of memory"]
    assert "maxmemory-policy allkeys-lru" in found["remedy"]
    assert "solution: raise maxmemory" in text


async def test_a_paused_server_has_a_high_latency(server: Server):
    async with Cache(config_of(server.port)) as cache:
        server.cli("CLIENT", "PAUSE", "400", "ALL")
        health, check = await health_with(cache, "latency")

    assert health.status == "degraded"
    assert check.detail.startswith("High latency: ")
    assert "network is congested" in check.detail
    assert "check the network" in check.remedy


async def test_a_slow_network_is_a_high_latency_for_doctor_too(server: Server, doctor):
    async with FaultProxy(server.port) as through:
        through.lag = 0.15
        warnings, text = await asyncio.to_thread(doctor, through.url)

    [found] = [each for each in warnings if each["name"] == "High latency"]
    assert "to answer a PING" in found["detail"]
    assert "then scale" in found["remedy"]
    assert "look    High latency" in text


async def test_a_near_tier_that_cant_track_makes_reads_slow(server: Server, doctor):
    rules = ("near", "on", ">secret", "~*", "&*", "+@all", "-client|tracking")
    server.cli("ACL", "SETUSER", *rules)
    config = config_of(server.port, username="near", password="secret")
    async with Cache(config) as cache:
        health, check = await health_with(cache, "latency")

    assert "nothing can be kept near" in check.detail
    assert "CLIENT TRACKING" in check.detail
    assert "client|tracking" in check.remedy
    told = [each for each in health.checks if "CLIENT TRACKING" in each.detail]
    assert told == [check], "it is said once"
    url = f"redis://near:secret@127.0.0.1:{server.port}?name=shop"
    warnings, text = await asyncio.to_thread(doctor, url)
    [found] = [each for each in warnings if "CLIENT TRACKING" in each["detail"]]
    assert found["name"] == "High latency"
    assert "secret" not in text


async def test_a_replica_in_the_place_of_the_primary_is_inconsistent(
    server: Server, tmp_path: Path
):
    replica = Server(tmp_path / "replica").start()
    try:
        replica.cli("REPLICAOF", "127.0.0.1", str(server.port))
        wait_until(lambda: replica.info("replication").get("role") == "slave", "a replica")
        async with Cache(config_of(replica.port)) as cache:
            _, check = await health_with(cache, "consistency")
    finally:
        replica.kill()

    assert check.detail.startswith("Inconsistent data: ")
    assert "is a slave" in check.detail
    assert "connect to the primary" in check.remedy


async def test_missing_replicas_are_a_replication_failure(server: Server):
    replication = ReplicationConfig(mode="synchronous", factor=2, consistency="all")
    coherence = CacheCoherence(replication=replication)
    async with Cache(config_of(server.port, coherence=coherence)) as cache:
        health, check = await health_with(cache, "consistency")

    assert health.status == "degraded"
    assert "has 0 replicas" in check.detail
    assert "check the replication" in check.remedy


async def test_a_lost_server_is_live_and_not_ready(server: Server):
    async with Cache(config_of(server.port)) as cache:
        await cache.set("k", 1)
        assert (await cache.get_health()).ready
        server.kill()
        async with asyncio.timeout(10):
            while (health := await cache.get_health()).ready:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert health.live
    assert health.wrong[0].name == "backend"
    assert "cache doctor" in health.wrong[0].remedy
    assert not (await cache.get_health()).live, "a closed one comes back by a new start only"
