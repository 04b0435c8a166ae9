"""A ring of independent servers: placement, copies, servers that die, come back, come and go."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from hashlib import sha1
from time import monotonic

import pytest
from tests.redis.conftest import now
from tests.redis.load import SLACK, until
from tests.redis.servers import Server, start

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import Consistent, PartitioningConfig, PoolConfig, Redis
from clusterdb.cache.errors import BackendUnavailable, Degraded, OutcomeUnknown, ServerError
from clusterdb.cache.transport import topology_for

KEYS = [b"key:%d" % n for n in range(300)]
DEADLINE = 0.5


def soon(seconds=3.0):
    return now() + seconds


@pytest.fixture
def servers(tmp_path):
    """Three servers of the test's own."""
    deployment = start("ring", tmp_path)
    yield deployment.servers
    deployment.stop()


@asynccontextmanager
async def ring_of(servers, *, timeout=1.0, **strategy):
    urls = [f"redis://127.0.0.1:{each.port}" for each in servers]
    pool = PoolConfig(timeout=timeout, connect_timeout=1)
    partitioning = PartitioningConfig(strategy=Consistent(**strategy))
    client = topology_for(Redis(urls=urls, pool=pool), now, partitioning=partitioning)
    try:
        await client.start(soon())
        yield client
    finally:
        await client.aclose()


def server_of(servers, node) -> Server:
    [found] = [each for each in servers if each.port == node.endpoint.port]
    return found


async def put(client, value=None, *, keys=KEYS):
    writes = [("SET", key, key if value is None else value) for key in keys]
    return await client.execute(writes, keys, soon(), write=True)


async def read(client, *, keys=KEYS, deadline=3.0):
    return await client.execute([("GET", key) for key in keys], keys, soon(deadline))


def holders(servers, key):
    return {each.port for each in servers if each.cli("EXISTS", key.decode()) == "1"}


# -- placement


@pytest.mark.parametrize("copies", [1, 2, 3])
async def test_each_key_is_on_its_owners_and_comes_back_in_order(servers, copies):
    async with ring_of(servers, replicas=copies) as client:
        assert set(await put(client)) == {b"OK"}
        assert await read(client) == KEYS
        for key in KEYS[:10]:
            ports = {node.endpoint.port for node in client.owners(key)}
            assert holders(servers, key) == ports
            assert client.node_for(key).endpoint.port in ports
        assert client.version == 0

    sizes = [int(each.cli("DBSIZE")) for each in servers]
    assert sum(sizes) == copies * len(KEYS)
    assert min(sizes) > 0


@pytest.mark.parametrize("write", [False, True])
async def test_one_round_trip_a_server_whatever_the_number_of_keys(servers, write):
    async with ring_of(servers, replicas=2) as client:
        await read(client)
        transports = [(await node.connection(soon()))._transport for node in client.nodes()]
        writes = []

        def counted(send):
            def counting(data):
                writes.append(len(data))
                send(data)

            return counting

        for transport in transports:
            transport.write = counted(transport.write)
        await (put(client) if write else read(client))

    assert len(writes) == 3


async def test_a_server_that_joins_or_leaves_moves_only_its_share(servers):
    async with ring_of(servers[:2]) as two, ring_of(servers) as three:
        await put(two)
        found = await read(three)
        moved = {key for key, value in zip(KEYS, found, strict=True) if value is None}
        newcomer = three.nodes()[2]
        assert moved == {key for key in KEYS if three.node_for(key) is newcomer}
        assert 0 < len(moved) <= len(KEYS) * (1 / 3 + 0.1)

        await put(three, b"new")
        found = await read(two)
        left = {key for key, value in zip(KEYS, found, strict=True) if value != b"new"}
        assert left == moved  # out of reach with the server that left, and older where they are


async def test_a_call_without_a_key_goes_to_a_server_that_lives(servers):
    async with ring_of(servers) as client:
        servers[0].kill()
        await until(lambda: client.nodes()[0].down)
        for _ in range(20):
            assert await client.call(None, ("PING",), soon()) == b"PONG"
        assert await client.execute([("PING",)] * 2, [None, None], soon()) == [b"PONG"] * 2


# -- one copy


async def test_with_one_copy_the_keys_of_a_dead_server_are_unavailable_and_no_others(servers):
    async with ring_of(servers) as client:
        await put(client)
        victim = client.node_for(KEYS[0])
        lost = [client.node_for(key) is victim for key in KEYS]
        server_of(servers, victim).kill()
        await until(lambda: victim.down)

        began = monotonic()
        found = await read(client)
        assert [isinstance(reply, BackendUnavailable) for reply in found] == lost
        for call in ("GET", "DEL"):
            with pytest.raises(BackendUnavailable, match="can't be reached") as caught:
                await client.call(KEYS[0], (call, KEYS[0]), soon(), write=call == "DEL")
            assert not isinstance(caught.value, Degraded)
        assert monotonic() - began < SLACK
        assert client.node_for(KEYS[0]) is victim

        server_of(servers, victim).start()
        await until(lambda: victim.down is None)
        assert await client.call(KEYS[0], ("GET", KEYS[0]), soon()) is None


# -- copies


@pytest.mark.parametrize("fault", ["kill", "freeze"])
async def test_reads_go_on_and_writes_are_degraded_while_an_owner_is_away(servers, fault):
    async with ring_of(servers, replicas=2, timeout=0.4) as client:
        await put(client)
        victim = client.owners(KEYS[0])[0]
        server = server_of(servers, victim)
        missed = [victim in client.owners(key) for key in KEYS]
        server.kill() if fault == "kill" else server.freeze()

        slow = 0
        end = monotonic() + (2 if fault == "freeze" else 0.3)  # past silence and a new connection
        while monotonic() < end:
            began = monotonic()
            assert await read(client, deadline=DEADLINE) == KEYS
            key = KEYS[0]
            assert await client.call(key, ("GET", key), soon(DEADLINE)) == key
            took = monotonic() - began
            assert took < DEADLINE + SLACK
            slow += took > DEADLINE / 3
            await asyncio.sleep(0.01)
        assert slow <= 1  # the read that found out

        began = monotonic()
        writes = [("SET", key, b"new") for key in KEYS]
        replies = await client.execute(writes, KEYS, soon(DEADLINE), write=True)
        assert monotonic() - began < DEADLINE + SLACK
        assert [isinstance(reply, Degraded) for reply in replies] == missed
        degraded = replies[0]
        assert (degraded.acknowledged, degraded.wanted, degraded.reply) == (1, 2, b"OK")
        assert server_of(servers, client.owners(KEYS[0])[1]).cli("GET", "key:0") == "new"
        with pytest.raises(Degraded):
            await client.call(KEYS[0], ("SET", KEYS[0], b"new"), soon(DEADLINE), write=True)
        assert await read(client, deadline=DEADLINE) == [b"new"] * len(KEYS)


async def test_writes_fail_at_once_for_an_owner_known_to_be_away(servers):
    async with ring_of(servers, replicas=2) as client:
        victim = client.owners(KEYS[0])[0]
        server_of(servers, victim).kill()
        await until(lambda: victim.down)
        began = monotonic()
        for _ in range(50):
            with pytest.raises(Degraded, match=r"1 of 2 copies took the write: .*can't be reached"):
                await client.call(KEYS[0], ("SET", KEYS[0], 1), soon(), write=True)
        assert monotonic() - began < SLACK


async def test_all_owners_away(servers):
    async with ring_of(servers, replicas=2) as client:
        for node in client.owners(KEYS[0]):
            server_of(servers, node).kill()
        await until(lambda: all(node.down for node in client.owners(KEYS[0])))
        for write in (False, True):
            with pytest.raises(BackendUnavailable, match="can't be reached") as caught:
                await client.call(KEYS[0], ("PERSIST", KEYS[0]), soon(), write=write)
            assert type(caught.value) is BackendUnavailable


async def test_all_owners_silent(servers):
    async with ring_of(servers, replicas=2) as client:
        await put(client)
        for server in servers:
            server.freeze()
        for write, error in ((False, BackendUnavailable), (True, OutcomeUnknown)):
            began = monotonic()
            with pytest.raises(error):
                await client.call(KEYS[0], ("PERSIST", KEYS[0]), soon(DEADLINE), write=write)
            assert monotonic() - began < DEADLINE + SLACK
        for server in servers:
            server.thaw()
        await until(lambda: client._away() == [])
        assert await read(client) == KEYS


async def test_an_owner_that_comes_back_is_asked_again_and_the_version_tells(servers):
    async with ring_of(servers, replicas=2) as client:
        await put(client)
        first, second = client.owners(KEYS[0])
        before = client.version
        server_of(servers, first).kill()
        await until(lambda: first.down)
        assert client.node_for(KEYS[0]) is second
        assert client.version == before + 1
        assert client.version == before + 1

        server_of(servers, first).start()
        await until(lambda: first.down is None)
        assert client.node_for(KEYS[0]) is first
        assert client.version == before + 2
        assert await client.call(KEYS[0], ("GET", KEYS[0]), soon()) is None  # it is empty


async def test_a_frozen_owner_is_asked_again_once_it_is_heard(servers):
    async with ring_of(servers, replicas=2, timeout=30) as client:
        await put(client)
        first = client.owners(KEYS[0])[0]
        server_of(servers, first).freeze()
        assert await client.call(KEYS[0], ("GET", KEYS[0]), soon(DEADLINE)) == KEYS[0]
        assert client.node_for(KEYS[0]) is not first
        server_of(servers, first).thaw()
        await until(lambda: client.node_for(KEYS[0]) is first)


async def test_an_owner_back_with_old_data_shows_it_at_most_until_its_ttl(servers):
    """Documented in docs/reference/ring.md: the reason why copies must have a TTL."""
    key = KEYS[0]
    async with ring_of(servers, replicas=2) as client:
        first = client.owners(key)[0]
        server = server_of(servers, first)
        ends = monotonic() + 3
        assert await client.call(key, ("SET", key, "old", "PX", 3000), soon(), write=True) == b"OK"
        server.cli("SAVE")
        server.kill()
        await until(lambda: first.down)
        with pytest.raises(Degraded):
            await client.call(key, ("SET", key, "new", "PX", 60_000), soon(), write=True)
        assert await client.call(key, ("GET", key), soon()) == b"new"

        server.start()
        await until(lambda: first.down is None)
        assert await client.call(key, ("GET", key), soon()) == b"old"
        await asyncio.sleep(ends - monotonic() + 0.05)
        assert await client.call(key, ("GET", key), soon()) is None


async def test_a_copy_that_is_refused_is_degraded_and_one_refused_by_all_is_the_servers_error(
    servers,
):
    command = ("SET", KEYS[0], b"x" * 100)
    async with ring_of(servers, replicas=2) as client:
        first, second = (server_of(servers, node) for node in client.owners(KEYS[0]))
        first.cli("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Degraded, match="OOM") as caught:
            await client.call(KEYS[0], command, soon(), write=True)
        assert caught.value.reply == b"OK"
        second.cli("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(ServerError, match="OOM"):
            await client.call(KEYS[0], command, soon(), write=True)


async def test_a_script_that_one_owner_lacks_is_asked_for(servers):
    script = "#!lua\nreturn redis.call('SET', KEYS[1], ARGV[1])"
    command = ("EVALSHA", sha1(script.encode()).hexdigest(), 1, KEYS[0], b"v")
    async with ring_of(servers, replicas=2) as client:
        for node in client.owners(KEYS[0]):
            with pytest.raises(ServerError, match="NOSCRIPT"):
                await client.call(KEYS[0], command, soon(), write=True)
            await node.call(("SCRIPT", "LOAD", script), soon())
        assert await client.call(KEYS[0], command, soon(), write=True) == b"OK"


# -- start


async def test_one_server_is_enough_to_start(servers):
    servers[0].kill()
    servers[1].freeze()
    began = monotonic()
    async with ring_of(servers, replicas=2) as client:
        assert monotonic() - began < 1
        key = next(key for key in KEYS if client.nodes()[2] in client.owners(key))
        assert await client.call(key, ("GET", key), soon(DEADLINE)) is None


async def test_no_server_at_all(servers):
    for server in servers:
        server.kill()
    with pytest.raises(BackendUnavailable, match="no server of the ring can be reached") as caught:
        async with ring_of(servers):
            pass
    assert all(str(server.port) in str(caught.value) for server in servers)


async def test_a_load_of_two_keys_reaches_all_owners_of_each(servers):
    """They may have the same first owner, and different ones behind it."""
    urls = [f"redis://127.0.0.1:{each.port}" for each in servers]
    ring = PartitioningConfig(strategy=Consistent(replicas=2))
    config = CacheConfig(name="test", backend=Redis(urls=urls), partitioning=ring, ttl="1h")
    async with ring_of(servers, replicas=2) as client, Cache(config) as cache:
        owners = {
            f"key:{number}": [
                node.endpoint.port for node in client.owners(b"test:default:key:%d" % number)
            ]
            for number in range(300)
        }
        first, *_ = owners
        other = next(
            key
            for key in owners
            if owners[key][0] == owners[first][0] and owners[key] != owners[first]
        )
        await cache.get_or_load_many([first, other], lambda keys: dict.fromkeys(keys, "x"))

        for key in (first, other):
            kept = {each.port: int(each.cli("STRLEN", f"test:default:{key}")) for each in servers}
            held = [kept[port] for port in owners[key]]
            assert held[0] == held[1] > 34  # a claim that was not filled is shorter
