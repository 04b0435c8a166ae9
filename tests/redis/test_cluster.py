"""Redis Cluster: slots, redirections, migration under load, and primaries that die."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import times
from tests.redis.conftest import now
from tests.redis.load import DEADLINE, SLACK, Load, until
from tests.redis.servers import Deployment, Server, wait_until

from clusterdb.cache import Cache, CacheConfig, CacheError, Redis
from clusterdb.cache.errors import BackendUnavailable, ServerError
from clusterdb.cache.transport import slot_of

KEYS = [b"key:%d" % n for n in range(300)]


def soon(seconds=3.0):
    return now() + seconds


def at(deployment: Deployment, port: int) -> Server:
    [found] = [each for each in deployment.servers if each.port == port]
    return found


def whole(deployment: Deployment) -> bool:
    """All six run, three of them primaries, each with a replica that follows."""
    for each in deployment.servers:
        replication = each.info("replication")
        if replication["role"] == "master" and replication["connected_slaves"] != "1":
            return False
        if replication["role"] == "slave" and replication["master_link_status"] != "up":
            return False
        if "cluster_state:ok" not in each.cli("CLUSTER", "INFO"):
            return False
        if each.cli("CLUSTER", "SLOTS").count("127.0.0.1") % 6:
            return False
    return True


@pytest.fixture
def servers(cluster):
    """The cluster, whole again afterwards."""
    yield cluster
    for each in cluster.servers:
        each.thaw()
        if each.process.poll() is not None:
            each.start()
    wait_until(lambda: whole(cluster), "a cluster that is whole", 40)


@pytest.fixture
async def client(cluster, opened):
    async with opened(*cluster.urls, cluster=True) as topology:
        yield topology


async def test_keys_are_spread_and_come_back_in_order(client):
    writes = [("SET", key, key) for key in KEYS]
    assert set(await client.execute(writes, KEYS, soon(), write=True)) == {b"OK"}
    reads = [("GET", key) for key in KEYS]

    assert await client.execute(reads, KEYS, soon()) == KEYS
    assert len({client.node_for(key) for key in KEYS}) == len(client.nodes()) == 3


async def test_one_round_trip_a_server_whatever_the_number_of_keys(client):
    await client.execute([("GET", key) for key in KEYS], KEYS, soon())
    transports = [(await node.connection(soon()))._transport for node in client.nodes()]
    writes = []

    def counted(write):
        def counting(data):
            writes.append(len(data))
            write(data)

        return counting

    for transport in transports:
        transport.write = counted(transport.write)
    await client.execute([("GET", key) for key in KEYS], KEYS, soon())

    assert len(writes) == 3


@given(key=st.one_of(st.binary(max_size=40), st.from_regex(rb"[{}a]{0,9}", fullmatch=True)))
@settings(
    max_examples=times(200),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_slots_are_those_of_the_server(cluster, key):
    framed = f"*3\r\n$7\r\nCLUSTER\r\n$7\r\nKEYSLOT\r\n${len(key)}\r\n".encode() + key + b"\r\n"
    assert slot_of(key) == int(_raw(cluster.servers[0].port, framed))


def _raw(port, command):
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=2) as line:
        line.sendall(command)
        return line.recv(100).removeprefix(b":").strip()


async def test_a_map_that_is_wrong_is_corrected_by_the_answers(client):
    owners = client._map.owners
    truth = list(owners)
    others = client.nodes()
    for slot in range(16_384):
        owners[slot] = others[(others.index(owners[slot]) + 1) % 3]
    writes = [("SET", key, key) for key in KEYS]

    assert set(await client.execute(writes, KEYS, soon(), write=True)) == {b"OK"}
    assert await client.call(KEYS[0], ("GET", KEYS[0]), soon()) == KEYS[0]
    await client.refresh(soon())
    assert client._map.owners == truth


async def test_errors_of_single_keys_stand_among_the_replies(client):
    await client.execute([("SET", key, key) for key in KEYS[:2]], KEYS[:2], soon(), write=True)
    await client.call(b"list", ("RPUSH", "list", 1), soon(), write=True)
    keys = [KEYS[0], b"list", KEYS[1]]
    first, second, third = await client.execute([("STRLEN", key) for key in keys], keys, soon())
    await client.call(b"list", ("DEL", "list"), soon(), write=True)

    assert (first, third) == (5, 5)
    assert isinstance(second, ServerError)
    assert second.code == "WRONGTYPE"
    with pytest.raises(ServerError, match="CROSSSLOT"):
        await client.call(KEYS[0], ("MGET", KEYS[0], KEYS[1]), soon())


async def test_replicas_answer_when_asked(client):
    await client.execute([("SET", key, key) for key in KEYS], KEYS, soon(), write=True)
    reads = [("GET", key) for key in KEYS]
    async with asyncio.timeout(5):
        while True:
            if await client.execute(reads, KEYS, soon(), replica=True) == KEYS:
                break
            await asyncio.sleep(0.02)  # replication takes its time
    info = await client.call(KEYS[0], ("INFO", "replication"), soon(), replica=True)

    assert b"role:slave" in info


async def test_a_server_that_is_no_cluster(standalone, opened):
    with pytest.raises(BackendUnavailable, match="no server of a cluster"):
        async with opened(*standalone.urls, cluster=True):
            pass


async def test_a_slot_moves_under_load(servers, client):
    """The keys of one slot go from one primary to another and back, a few at a time."""
    tagged = [b"{move}:%d" % n for n in range(60)]
    slot = str(slot_of(b"{move}"))
    ids = {node: at(servers, node.endpoint.port) for node in client.nodes()}
    names = {node: server.cli("CLUSTER", "MYID") for node, server in ids.items()}
    source = client.node_for(b"{move}")
    target = next(node for node in client.nodes() if node is not source)
    writes = [("SET", key, key) for key in tagged]
    assert set(await client.execute(writes, tagged, soon(), write=True)) == {b"OK"}
    moving, right, tried = True, 0, 0

    async def reader():
        nonlocal right, tried
        while moving:
            replies = await client.execute([("GET", key) for key in tagged], tagged, soon())
            assert replies == tagged
            one = tagged[tried % 60]
            assert await client.call(one, ("GETSET", one, one), soon(), write=True) == one
            pair = await client.call(one, ("MGET", tagged[0], tagged[-1]), soon())
            assert pair == [tagged[0], tagged[-1]]
            right, tried = right + 1, tried + 1

    readers = [asyncio.create_task(reader()) for _ in range(8)]
    for here, there in ((source, target), (target, source)):
        ids[there].cli("CLUSTER", "SETSLOT", slot, "IMPORTING", names[here])
        ids[here].cli("CLUSTER", "SETSLOT", slot, "MIGRATING", names[there])
        for start in range(0, 60, 10):
            keys = [key.decode() for key in tagged[start : start + 10]]
            port = str(there.endpoint.port)
            words = ("MIGRATE", "127.0.0.1", port, "", "0", "1000", "KEYS", *keys)
            await asyncio.to_thread(ids[here].cli, *words)
            await asyncio.sleep(0.02)
        for node in (there, here):
            ids[node].cli("CLUSTER", "SETSLOT", slot, "NODE", names[there])
        await asyncio.sleep(0.1)
    moving = False
    await asyncio.gather(*readers)

    assert right > 20
    assert client.node_for(b"{move}") is source


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_a_primary_that_dies_is_replaced_and_the_others_go_on(servers, opened, fault):
    async with opened(*servers.urls, cluster=True) as client:
        async with Load(client) as load:
            await load.flows()
            victim = client.node_for(b"key:0")
            chief = at(servers, victim.endpoint.port)
            unaffected = next(key for key in KEYS if client.node_for(key) is not victim)
            chief.kill() if fault == "kill" else chief.freeze()
            assert await client.call(unaffected, ("EXISTS", unaffected), soon(0.5)) in (0, 1)
            await until(lambda: client.node_for(b"key:0") is not victim)
            await load.flows(15)
            chief.thaw()
            await asyncio.sleep(0.2)
            await load.flows(15)
        await load.check_counters(may_lose=True)

    assert load.worst < DEADLINE + SLACK


async def test_a_server_of_a_cluster_that_was_taken_for_one_alone_names_the_remedy(cluster):
    async with Cache(CacheConfig(backend=Redis(urls=cluster.urls[:1]))) as cache:
        with pytest.raises(CacheError, match="set cluster: true in backend"):
            await cache.set_many({f"key:{number}": 1 for number in range(20)})
