"""Slots move between servers that want a login, and over TLS: the source logs in at the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.maintenance.conftest import Shared
from tests.maintenance.test_slots import REBALANCE, fill, open_slots, versions
from tests.redis import servers
from tests.redis.servers import Deployment, guarded_cluster, missing, tls_cluster
from tests.redis.test_permissions import PASSWORD, USER, also, grant, refused, rule

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(bool(missing()), reason="redis-server is not installed"),
]


@pytest.fixture(scope="module")
def with_password(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = guarded_cluster(tmp_path_factory.mktemp("guarded"))
    yield deployment
    deployment.stop()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Its user may do what the documentation says of one who moves slots, and nothing else."""
    deployment = tls_cluster(tmp_path_factory.mktemp("encrypted"))
    yield deployment
    deployment.stop()


def by_password(cluster: Deployment) -> Shared:
    backend = {"type": "redis", "urls": cluster.urls, "cluster": True}
    return Shared(backend | {"password": servers.PASSWORD}, lambda _: None)


def by_user(cluster: Deployment, *, tls: bool = True) -> Shared:
    backend: dict[str, Any] = {"type": "redis", "urls": cluster.plain, "cluster": True}
    backend |= {"username": USER, "password": PASSWORD}
    if tls:
        place = cluster.certificates
        assert place is not None
        files = {"ca": "ca.crt", "cert": "client.crt", "key": "client.key"}
        backend["urls"] = cluster.urls
        backend["tls"] = {name: str(place / file) for name, file in files.items()}
    return Shared(backend, lambda _: None)


def allow(cluster: Deployment) -> None:
    words = [word for word in rule() if word not in ("resetkeys", "~shop:*")]
    more = ["~*", *also("the near tier"), *also("Cluster"), *also("`cache maintenance")]
    grant(cluster.servers, [*words, *more])


async def moves(shared: Shared, cluster: Deployment) -> None:
    """Slots move, and every entry is there afterwards, as it was."""
    async with shared.cache("asked", **REBALANCE) as cache:
        known = await fill(cache, cluster, tags=12, each=20)
        before = await cache.get_balance()
        assert before.moves
        run = await cache.run_maintenance("rebalance")
        assert (run.outcome, run.jobs[0].error) == ("done", "")
        assert run.jobs[0].moved > 0
        assert open_slots(cluster) == []
        assert max((await cache.get_balance()).loads.values()) < max(before.loads.values())
        assert await versions(cache, list(known)) == known
        assert [key for key in known if await cache.get(key) != key] == []


async def test_with_a_password(with_password: Deployment):
    await moves(by_password(with_password), with_password)


async def test_with_a_user_over_tls(encrypted: Deployment):
    allow(encrypted)
    await moves(by_user(encrypted), encrypted)
    assert refused(encrypted.servers) == []


async def test_clients_without_tls_are_told_the_remedy(encrypted: Deployment):
    """Servers speak TLS to each other by `tls-cluster`, whatever their clients do, and a client
    without it is told ports that have none.
    """
    allow(encrypted)
    for server in encrypted.servers:
        server.cli("FLUSHALL")
    async with by_user(encrypted).cache("none", **REBALANCE) as cache:
        known = await fill(cache, encrypted, tags=4, each=20)
    async with by_user(encrypted, tls=False).cache("asked", **REBALANCE) as cache:
        run = await cache.run_maintenance("rebalance")
        assert run.outcome == "failed"
        assert "rediss://" in run.jobs[0].error
        assert await versions(cache, list(known)) == known, "all is served where it was"
    async with by_user(encrypted).cache("asked", **REBALANCE) as cache:
        assert (await cache.run_maintenance("rebalance")).outcome == "done"
        assert open_slots(encrypted) == []
        assert await versions(cache, list(known)) == known
