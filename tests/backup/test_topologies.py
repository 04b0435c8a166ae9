"""A backup of any servers goes into any others: one Redis, Sentinel, a Cluster, a ring, a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.backup.conftest import backup_config
from tests.backup.test_backups import contents
from tests.redis.backends import config_of, flush
from tests.redis.servers import Deployment, missing, start

from clusterdb.cache import Cache, CacheConfig, CacheRegion, Directory, Disk, Memory

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(bool(missing()), reason="not installed: redis-server, redis-sentinel"),
]

Make = Callable[[str], Cache]


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Deployment]]:
    kinds = ("standalone", "sentinel", "cluster", "ring")
    found = {kind: start(kind, tmp_path_factory.mktemp(kind)) for kind in kinds}
    yield found
    for deployment in found.values():
        deployment.stop()


@pytest.fixture
def on(deployments: dict[str, Deployment], place: Path, tmp_path: Path) -> Make:
    """Makes a cache on some kind of servers, which are empty; backups are in one place."""
    for deployment in deployments.values():
        flush(deployment)
    numbers = iter(range(100))

    def on(kind: str) -> Cache:
        if kind in deployments:
            config = config_of(deployments[kind], timeout=2)
        else:
            config = CacheConfig(
                name="test",
                backend=Memory() if kind == "memory" else Disk(path=tmp_path / f"{next(numbers)}"),
            )
        return Cache(
            replace(
                config,
                regions=(CacheRegion(name="other", instant_clear=True),),
                backup=backup_config(Directory(path=place), full_every=5),
            )
        )

    return on


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("standalone", "cluster"),
        ("cluster", "memory"),
        ("memory", "ring"),
        ("ring", "disk"),
        ("disk", "sentinel"),
        ("sentinel", "standalone"),
    ],
)
async def test_what_one_had_another_has(on, source, target):
    async with on(source) as cache:
        other = cache.region("other")
        await cache.set_many({f"k{at}": {"n": at} for at in range(2000)}, ttl=1000)
        await cache.set("tagged", "x", tags=("t",))
        await cache.increment("counter", 5)
        await other.set("old", 1)
        await other.clear()
        await other.set("new", 2)
        await cache.backups.create()
        await cache.set("k1", "changed")
        await cache.delete("k2")
        made = await cache.backups.create()
        assert (made.kind, made.stored, made.gone) == ("incremental", 1, 1)
        assert (await cache.backups.verify()).good
        expected = await contents(cache)
        assert len(expected) == 2001

    async with on(target) as cache:
        report = await cache.backups.restore()

        assert (report.restored, report.failed) == (2002, 0)
        assert await contents(cache) == expected
        assert await contents(cache, "other") == {"new": 2}
        assert 900 < (await cache.lookup("k5")).expires_in <= 1000
        assert await cache.increment("counter", 1) == 6
        await cache.invalidate_tag("t")
        assert await cache.get("tagged") is None
        assert (await cache.backups.restore()).restored == 1  # the one that was invalidated


async def test_near_tiers_of_other_processes_hear_of_a_restore(on):
    async with on("standalone") as cache, on("standalone") as other:
        await cache.set("a", "then")
        made = await cache.backups.create()
        await cache.set("a", "now")
        assert await other.get("a") == "now"
        assert (await other.lookup("a")).tier == "near"

        await cache.backups.restore(made.id, overwrite="always")

        async with asyncio.timeout(5):
            while await other.get("a") != "then":  # noqa: ASYNC110 - what a user sees
                await asyncio.sleep(0.01)


async def test_a_node_that_is_lost_while_a_backup_is_made_ends_it(deployments, on):
    async with on("ring") as cache:
        await cache.set_many({f"k{at}": at for at in range(3000)})
        good = await cache.backups.create()
        frozen = deployments["ring"].servers[0]
        frozen.freeze()
        try:
            with pytest.raises(ConnectionError):
                await cache.backups.create()
        finally:
            frozen.thaw()
        assert [each.id for each in await cache.backups.list()] == [good.id]


async def test_a_reading_of_many_nodes_side_by_side_finds_each_entry_once(on):
    async with on("cluster") as cache:
        await cache.set_many({f"k{at}": at for at in range(5000)})
        made = await cache.backups.create()

        assert made.entries == made.stored == 5000
