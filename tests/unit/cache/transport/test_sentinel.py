"""Whom a client behind Sentinel believes, and when it asks again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from tests.unit.cache.transport.fake import POOL, FakeServer, array

from clusterdb.cache.errors import BackendUnavailable
from clusterdb.cache.transport import sentinel
from clusterdb.cache.transport.endpoint import Endpoint
from clusterdb.cache.transport.sentinel import Sentinel

READ_ONLY = b"-READONLY You can't write against a read only replica.\r\n"


def soon(seconds: float = 2.0) -> float:
    return asyncio.get_running_loop().time() + seconds


class Set:
    """Two servers, three sentinels, and a client."""

    def __init__(self, client: Sentinel, servers: list[FakeServer], watch: list[FakeServer]):
        self.client, self.servers, self.sentinels = client, servers, watch
        for server in servers:
            server.answers = {b"ROLE": array("master", 0, array()), b"SET": b"+OK\r\n"}
        self.all_name(servers[0])

    def all_name(self, server: FakeServer) -> None:
        for each in self.sentinels:
            self.names(each, server)

    def names(self, each: FakeServer, server: FakeServer) -> None:
        named = array("127.0.0.1", str(server.port))
        each.answers |= {b"SENTINEL GET-MASTER-ADDR-BY-NAME": named, b"SENTINEL REPLICAS": array()}

    @property
    def primary(self) -> FakeServer:
        [port] = [node.endpoint.port for node in self.client.nodes()]
        return next(each for each in self.servers if each.port == port)


@pytest.fixture
async def servers(monkeypatch):
    async with AsyncExitStack() as stack:
        a, b, *watch = [await stack.enter_async_context(FakeServer()) for _ in range(5)]
        asked = [Endpoint(host="127.0.0.1", port=each.port) for each in watch]
        client = Sentinel("main", asked, Endpoint(), POOL, asyncio.get_running_loop().time)
        yield Set(client, [a, b], watch)
        await client.aclose()


async def test_the_majority_is_believed(servers):
    old, new = servers.servers
    servers.all_name(new)
    servers.names(servers.sentinels[0], old)
    for each in servers.sentinels[1:]:
        each.delay = 0.05
    await servers.client.start(soon())

    assert servers.primary is new


async def test_a_server_that_says_it_is_no_master_is_not_believed_to_be_one(servers):
    servers.servers[0].answers[b"ROLE"] = array("slave", "127.0.0.1", 1)
    with pytest.raises(BackendUnavailable, match="is to be the master, but says"):
        await servers.client.start(soon())
    servers.servers[0].answers[b"ROLE"] = array("master", 0, array())
    await servers.client.start(soon())

    assert servers.primary is servers.servers[0]


async def test_a_write_that_a_replica_refused_goes_to_the_master(servers, monkeypatch):
    monkeypatch.setattr(sentinel, "_ASK_EVERY", 3600)
    await servers.client.start(soon())
    old, new = servers.servers
    old.answers[b"SET"] = READ_ONLY
    servers.all_name(new)

    assert await servers.client.call(b"k", ("SET", "k", 1), soon(), write=True) == b"OK"
    assert servers.primary is new
    assert [command[0] for command in new.seen] == [b"ROLE", b"SET"]


async def test_so_does_a_whole_batch(servers, monkeypatch):
    monkeypatch.setattr(sentinel, "_ASK_EVERY", 3600)
    await servers.client.start(soon())
    old, new = servers.servers
    old.answers[b"SET"] = READ_ONLY
    servers.all_name(new)
    commands = [("SET", n, 1) for n in range(3)]
    replies = await servers.client.execute(commands, [None] * 3, soon(), write=True)

    assert replies == [b"OK"] * 3


async def test_a_refusal_that_lasts_means_that_there_is_no_master(servers):
    await servers.client.start(soon())
    servers.servers[0].answers[b"SET"] = READ_ONLY
    with pytest.raises(BackendUnavailable, match="is no master now"):
        await servers.client.call(b"k", ("SET", "k", 1), soon(), write=True)


async def test_a_new_master_is_heard_of_though_the_old_one_still_answers(servers, monkeypatch):
    monkeypatch.setattr(sentinel, "_ASK_EVERY", 0.02)
    await servers.client.start(soon())
    version = servers.client.version
    servers.all_name(servers.servers[1])
    async with asyncio.timeout(5):
        while True:
            if servers.primary is servers.servers[1]:
                break
            await asyncio.sleep(0.005)

    assert servers.client.version == version + 1
