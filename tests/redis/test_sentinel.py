"""A primary behind Sentinel: found, and followed through failovers under load."""

from __future__ import annotations

import asyncio

import pytest
from tests.redis.conftest import now
from tests.redis.load import DEADLINE, SLACK, Load, until
from tests.redis.servers import MASTER, Deployment, Server, wait_until

from clusterdb.cache.config import SentinelConfig
from clusterdb.cache.errors import BackendUnavailable

BEHIND = SentinelConfig(master=MASTER)
FAILOVER = 15.0


def named(deployment: Deployment) -> list[str]:
    return deployment.sentinels[0].cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER).splitlines()


def master(deployment: Deployment) -> Server:
    """The server that all sentinels name."""
    [found] = [each for each in deployment.servers if str(each.port) == named(deployment)[1]]
    return found


def whole(deployment: Deployment) -> bool:
    """Sentinels that agree about the master, and a replica of it that they could promote."""
    chief = master(deployment)
    roles = [each.info("replication") for each in deployment.servers]
    linked = [
        role["master_link_status"] == "up"
        for role in roles
        if role.get("master_port") == str(chief.port)
    ]
    agreed = all(
        each.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER).splitlines() == named(deployment)
        and "flags\nmaster\n" in each.cli("SENTINEL", "MASTER", MASTER) + "\n"
        for each in deployment.sentinels
    )
    return any(linked) and agreed


@pytest.fixture
def servers(sentinel):
    """The set, whole again afterwards."""
    yield sentinel
    for each in [*sentinel.servers, *sentinel.sentinels]:
        each.thaw()
        if each.process.poll() is not None:
            each.start()
    wait_until(lambda: whole(sentinel), "a Sentinel set that is whole", 40)


async def test_the_master_is_found_whichever_sentinels_answer(servers, opened):
    servers.sentinels[0].freeze()
    async with opened("redis://127.0.0.1:1", *servers.urls, sentinel=BEHIND) as client:
        assert client.nodes()[0].endpoint.port == master_port(servers, ask=1)
        assert await client.call(b"k", ("SET", "k", 1), now() + 1, write=True) == b"OK"


def master_port(deployment, ask):
    words = deployment.sentinels[ask].cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER).split()
    return int(words[1])


async def test_the_database_of_the_url_is_the_masters(sentinel, opened):
    async with opened(*[f"{url}/4" for url in sentinel.urls], sentinel=BEHIND) as client:
        info = await client.call(None, ("CLIENT", "INFO"), now() + 1)

    assert b"db=4" in info


async def test_a_name_that_no_sentinel_knows(sentinel, opened):
    with pytest.raises(BackendUnavailable, match="knows no master 'mian'"):
        async with opened(*sentinel.urls, sentinel=SentinelConfig(master="mian")):
            pass


async def test_no_sentinel_answers(opened):
    with pytest.raises(BackendUnavailable, match="can't be reached"):
        async with opened("redis://127.0.0.1:1", sentinel=BEHIND):
            pass


async def test_a_failover_on_demand_is_followed(servers, opened):
    async with opened(*servers.urls, sentinel=BEHIND) as client, Load(client) as load:
        await load.flows()
        before, version = client.nodes()[0], client.version
        servers.sentinels[0].cli("SENTINEL", "FAILOVER", MASTER)
        await until(lambda: client.nodes()[0] is not before)
        await load.flows(FAILOVER)

        assert client.version > version
    assert load.worst < DEADLINE + SLACK


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_master_that_dies_is_replaced(servers, opened, fault):
    async with opened(*servers.urls, sentinel=BEHIND) as client:
        async with Load(client) as load:
            await load.flows()
            before = client.nodes()[0]
            chief = master(servers)
            chief.kill() if fault == "kill" else chief.freeze()
            await until(lambda: client.nodes()[0] is not before)
            await load.flows(FAILOVER)
            chief.thaw()
            await asyncio.sleep(0.2)
            await load.flows(FAILOVER)
        await load.check_counters(may_lose=True)

        assert client.nodes()[0] is not before
    assert load.worst < DEADLINE + SLACK
