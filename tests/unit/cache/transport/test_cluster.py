"""Whose map of slots a client believes, and what makes it ask."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.cache.transport.fake import POOL, FakeServer, cluster_info, cluster_slots

from clusterdb.cache.errors import BackendUnavailable, OutcomeUnknown
from clusterdb.cache.transport.cluster import Cluster
from clusterdb.cache.transport.endpoint import Endpoint

KEY = b"k2"  # of a slot in the lower half


def soon(seconds: float = 2.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def view(server: FakeServer, epoch: int, *owners: FakeServer) -> None:
    """What a server says about the cluster."""
    server.answers[b"CLUSTER SLOTS"] = cluster_slots(*[owner.port for owner in owners])
    server.answers[b"CLUSTER INFO"] = cluster_info(epoch)


@pytest.fixture
async def pair():
    async with FakeServer() as a, FakeServer() as b:
        for server in (a, b):
            server.answers |= {b"GET": b"_\r\n", b"SET": b"+OK\r\n"}
            view(server, 5, a, b)
        yield a, b


@pytest.fixture
async def client(pair):
    seeds = [Endpoint(host="127.0.0.1", port=each.port) for each in pair]
    cluster = Cluster(seeds, POOL, asyncio.get_running_loop().time)
    await cluster.start(soon())
    yield cluster
    await cluster.aclose()


def owner(client: Cluster) -> int:
    return client.node_for(KEY).endpoint.port


async def test_an_older_view_is_not_taken(pair, client):
    old, new = pair
    assert owner(client) == old.port
    for server in pair:
        view(server, 6, new, old)
    await client.refresh(soon())
    assert owner(client) == new.port
    view(old, 5, old, new)  # as it was when this server was cut off
    new.delay = 0.05
    await client.refresh(soon())

    assert owner(client) == new.port


async def test_a_cluster_that_was_made_anew_is_taken_though_its_epoch_is_lower(pair, client):
    view(pair[0], 1, pair[1])
    view(pair[1], 1, pair[1])
    await client.refresh(soon())

    assert owner(client) == pair[1].port


async def test_a_read_follows_its_slot_when_the_server_is_gone(pair, client):
    gone, other = pair
    view(other, 6, other)
    gone.stop()

    assert await client.call(KEY, ("GET", KEY), soon()) is None
    assert [b"GET", KEY] in other.seen


async def test_an_unknown_outcome_is_told_and_makes_the_client_ask(pair, client):
    failing, other = pair
    for server in pair:
        view(server, 6, other)
    failing.answers[b"SET"] = b""
    with pytest.raises(OutcomeUnknown):
        await client.call(KEY, ("SET", KEY, 1), soon(), write=True)
    async with asyncio.timeout(2):
        while True:
            if owner(client) == other.port:
                break
            await asyncio.sleep(0.005)

    assert [b"SET", KEY, b"1"] not in other.seen


async def test_one_dead_server_fails_only_its_own_keys(pair, client):
    gone, _ = pair
    gone.stop()
    keys = [b"k%d" % n for n in range(20)]
    replies = await client.execute([("GET", key) for key in keys], keys, soon(1))

    for key, reply in zip(keys, replies, strict=True):
        dead = client.node_for(key).endpoint.port == gone.port
        assert isinstance(reply, BackendUnavailable) == dead
    assert None in replies


async def test_a_cluster_that_is_down_is_unavailable(pair, client):
    for server in pair:
        server.answers[b"GET"] = b"-CLUSTERDOWN The cluster is down\r\n"
    with pytest.raises(BackendUnavailable, match="CLUSTERDOWN"):
        await client.call(KEY, ("GET", KEY), soon(0.3))


async def test_a_dead_server_costs_little_waiting_and_few_questions(pair, client):
    pair[0].stop()
    began = soon(0)
    before = len([command for command in pair[1].seen if command[:2] == [b"CLUSTER", b"SLOTS"]])
    calls = 0
    while soon(0) < began + 0.5:
        calls += 1
        with pytest.raises(BackendUnavailable):
            await client.call(KEY, ("GET", KEY), soon(1))
        await asyncio.sleep(0.001)
    after = len([command for command in pair[1].seen if command[:2] == [b"CLUSTER", b"SLOTS"]])

    assert after - before <= 10
    assert calls > 50
