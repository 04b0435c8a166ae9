"""A ring: what its clean-up finds, what its balance tells, and where there is no maintenance."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.redis.servers import Deployment, missing, start

from clusterdb.cache import (
    Cache,
    CacheConfig,
    Cleanup,
    Consistent,
    MaintenanceConfig,
    NotSupported,
    PartitioningConfig,
    Rebalance,
    Redis,
)

pytestmark = pytest.mark.server

TASKS = MaintenanceConfig(
    schedule="0 * * * *", tasks=[Cleanup(older_than="7d"), Rebalance(threshold=0.3)], lease=1
)


@pytest.fixture
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    absent = missing()
    if absent:
        pytest.skip(f"not installed: {', '.join(absent)}")
    deployment = start("ring", tmp_path_factory.mktemp("ring"))
    yield deployment
    deployment.stop()


def config(ring: Deployment, **strategy: object) -> CacheConfig:
    placing = Consistent(**strategy)  # type: ignore[arg-type]
    return CacheConfig(
        name="test",
        backend=Redis(urls=ring.urls),
        partitioning=PartitioningConfig(strategy=placing),
        maintenance=TASKS,
    )


def held(ring: Deployment) -> list[int]:
    """How many entries each server has."""
    return [len(server.cli("KEYS", "test:default:*").split()) for server in ring.servers]


async def test_entries_that_another_server_owns_by_now_go_and_weights_are_told(ring):
    lopsided = [4.0, 1.0, 1.0]
    async with Cache(config(ring, weights=lopsided)) as cache:
        await cache.set_many({f"k{n}": n for n in range(600)})
        run = await cache.run_maintenance()
        assert [job.removed for job in run.jobs] == [0, 0]
        [advice] = run.jobs[1].notes
        assert "partitioning.strategy.weights [" in advice
    told = [float(each) for each in advice.partition("[")[2].partition("]")[0].split(", ")]
    for server in ring.servers:
        names = server.cli("KEYS", "test:default:*").split()
        server.cli("EVAL", _AGE, str(len(names)), *names)

    async with Cache(config(ring, weights=told)) as cache:
        await cache.set_many({f"k{n}": n for n in range(600)})
        before = sum(held(ring))
        assert before > 600, "some have another server now, and their old copies are still there"
        [clean, even] = (await cache.run_maintenance()).jobs

        assert clean.removed == before - 600
        assert sum(held(ring)) == 600
        assert even.notes == (), held(ring)
        assert await cache.get_many([f"k{n}" for n in range(600)]) == {
            f"k{n}": n for n in range(600)
        }
        with pytest.raises(NotSupported, match="no slots to move"):
            await cache.get_balance()


_AGE = """
for _, name in ipairs(KEYS) do
  redis.call('RESTORE', name, 0, redis.call('DUMP', name), 'REPLACE', 'IDLETIME', 700000)
end
"""


async def test_a_ring_of_several_copies_has_no_maintenance_and_says_so(ring):
    async with Cache(config(ring, replicas=2)) as cache:
        maintenance = cache.access.runtime.maintenance
        async with asyncio.timeout(10):
            while True:
                if maintenance.problem:
                    break
                await asyncio.sleep(0.02)

        health = await cache.get_health()

        [check] = [each for each in health.checks if each.name == "maintenance"]
        assert check.status == "degraded"
        assert "2 copies" in check.detail
        with pytest.raises(NotSupported, match="2 copies"):
            await cache.run_maintenance()
