"""Servers and networks that fail under load: no call outlives its deadline, no reply goes astray,
and the work goes on by itself afterwards.
"""

from __future__ import annotations

import asyncio
import os
from time import monotonic

import pytest
from tests.redis.conftest import now
from tests.redis.load import CALLERS, DEADLINE, SLACK, Load, loop_gap
from tests.redis.proxy import FaultProxy
from tests.redis.servers import HOST

from clusterdb.cache import Cache, CacheConfig, Redis
from clusterdb.cache.errors import BackendUnavailable, OutcomeUnknown


@pytest.fixture
async def client(server, opened):
    async with opened(f"redis://{HOST}:{server.port}") as topology:
        yield topology


async def test_a_server_that_is_killed_and_comes_back_empty(server, client):
    async with Load(client) as load:
        await load.flows()
        server.kill()
        await asyncio.sleep(0.5)
        assert load.outcomes["BackendUnavailable"] > 0
        server.start()
        keys = [b"key:%d" % n for n in range(CALLERS)]
        await until_works(client, [("SET", key, key) for key in keys], keys)
        load.running = False
        for task in load.tasks:  # reads of an empty server are misses, which the load counts wrong
            task.cancel()
        await asyncio.gather(*load.tasks, return_exceptions=True)
        load.tasks = []
    async with Load(client) as again:
        await again.flows()

    assert load.worst < DEADLINE + SLACK


async def test_a_server_that_is_frozen_and_thawed(server, client):
    async with Load(client) as load:
        await load.flows()
        server.freeze()
        gap = await loop_gap(2.0)
        server.thaw()
        assert load.outcomes["BackendUnavailable"] > 0
        await load.flows()
    await load.check_counters()

    assert load.worst < DEADLINE + SLACK
    assert gap < 0.2


async def test_a_pause_of_all_clients(server, client):
    async with Load(client) as load:
        await load.flows()
        server.cli("CLIENT", "PAUSE", "1500", "ALL")
        await asyncio.sleep(1.5)
        await load.flows()
    await load.check_counters()

    assert load.worst < DEADLINE + SLACK


async def test_every_connection_is_killed_again_and_again(server, client):
    async with Load(client) as load:
        await load.flows()
        for _ in range(10):
            server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.1)
        await load.flows()
    await load.check_counters()

    assert load.worst < DEADLINE + SLACK
    assert "BackendUnavailable" not in load.outcomes  # reads went on over new connections


async def test_a_network_that_splits_and_delays(server, opened):
    async with FaultProxy(server.port) as proxy:
        proxy.split, proxy.delay = 7, 0.002
        async with opened(proxy.url) as client:
            async with Load(client, deadline=0.1, cancel=0.4) as load:
                await asyncio.sleep(1.5)
                proxy.split, proxy.delay = 0, 0.0
                await load.flows()
            await load.check_counters()

    assert load.outcomes["BackendUnavailable"] > 0
    assert load.worst < 0.1 + SLACK


async def test_a_hundred_thousand_calls_with_cancellations_and_split_packets(server, opened):
    async with FaultProxy(server.port) as proxy:
        proxy.split = 300
        async with opened(proxy.url) as client:
            done = 0
            async with Load(client, deadline=0.2, cancel=0.4) as load:
                end = monotonic() + 30
                while done < 100_000 and monotonic() < end:
                    await asyncio.sleep(0.2)
                    done = sum(load.outcomes.values())
            await load.check_counters()

    assert done >= 100_000
    assert load.outcomes["cancelled"] > 1_000
    assert load.outcomes["ok"] > 10_000


@pytest.mark.parametrize("side", ["deaf", "mute", "both"])
async def test_a_black_hole_one_way_or_both(server, opened, side):
    async with FaultProxy(server.port) as proxy, opened(proxy.url) as client:
        async with Load(client) as load:
            await load.flows()
            proxy.deaf, proxy.mute = side != "mute", side != "deaf"
            await asyncio.sleep(1.5)
            proxy.deaf = proxy.mute = False
            await load.flows()
        assert load.outcomes["ok"]
        assert load.worst < DEADLINE + SLACK
        assert proxy.accepted >= 2  # the connection that swallowed bytes was given up
        await load.check_counters()


async def test_answers_that_are_cut_and_connections_that_are_reset(server, opened):
    async with FaultProxy(server.port) as proxy, opened(proxy.url) as client:
        async with Load(client) as load:
            await load.flows()
            proxy.cut_after = 5_000
            await asyncio.sleep(0.5)
            proxy.cut_after = -1
            for _ in range(10):
                proxy.reset()
                await asyncio.sleep(0.03)
            await load.flows()
        await load.check_counters()
        assert load.worst < DEADLINE + SLACK
        assert proxy.open <= 3  # nothing is left behind


async def test_a_write_that_was_sent_is_never_sent_again(server, opened):
    async with FaultProxy(server.port) as proxy, opened(proxy.url) as client:
        await client.call(b"n", ("SET", "n", 0), now() + 1, write=True)
        proxy.mute = True
        with pytest.raises(OutcomeUnknown):
            await client.call(b"n", ("INCR", "n"), now() + 0.3, write=True)
        proxy.mute = False
        proxy.reset()

        assert await client.call(b"n", ("GET", "n"), now() + 2) == b"1"


async def test_a_read_is_sent_again_over_a_new_connection(server, opened):
    async with FaultProxy(server.port) as proxy, opened(proxy.url, timeout=5) as client:
        proxy.mute = True
        read = asyncio.ensure_future(client.call(b"n", ("GET", "n"), now() + 5))
        await asyncio.sleep(0.1)
        proxy.mute = False
        proxy.reset()

        assert await read is None


async def test_a_server_that_is_away_costs_no_waiting(server, client):
    server.kill()
    with pytest.raises(BackendUnavailable):
        await client.call(b"k", ("GET", "k"), now() + 5)
    began = monotonic()
    for _ in range(100):
        with pytest.raises(BackendUnavailable, match="can't be reached"):
            await client.call(b"k", ("GET", "k"), now() + 5)

    assert monotonic() - began < 0.5


async def test_a_login_that_is_withdrawn_and_given_back(server, opened):
    server.cli("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all")
    async with opened(f"redis://app:pw@{HOST}:{server.port}") as client:
        assert await client.call(b"k", ("GET", "k"), now() + 1) is None
        server.cli("ACL", "SETUSER", "app", "off")
        server.cli("CLIENT", "KILL", "USER", "app")
        with pytest.raises(BackendUnavailable, match="wrong user name or password"):
            await client.call(b"k", ("GET", "k"), now() + 1)
        server.cli("ACL", "SETUSER", "app", "on")
        await until_works(client, [("GET", "k")], [b"k"])


async def test_a_child_process_leaves_the_parents_connection_alone(server, client):
    await client.call(b"k", ("SET", "k", "v"), now() + 1, write=True)
    pending = asyncio.ensure_future(client.call(b"k", ("GET", "k"), now() + 1))
    await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        client.forked()
        os._exit(0 if not client.nodes()[0].connections else 1)
    _, status = await asyncio.to_thread(os.waitpid, child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert await pending == b"v"
    assert await client.call(b"k", ("GET", "k"), now() + 1) == b"v"


async def until_works(client, commands, keys, within=5.0):
    async with asyncio.timeout(within):
        while True:
            replies = await client.execute(commands, keys, now() + 1, write=True)
            if not any(isinstance(reply, Exception) for reply in replies):
                return
            await asyncio.sleep(0.02)


async def test_a_write_without_an_answer_can_not_undo_a_later_one(server, opened):
    """It is stuck between us and the server, and would be carried out when the way is free."""
    async with FaultProxy(server.port) as through, opened(through.url, timeout=0.3) as client:
        await client.call(b"k", ("SET", "k", "first"), now() + 1, write=True)
        through.hold = True
        with pytest.raises(OutcomeUnknown):
            await client.call(b"k", ("SET", "k", "stuck"), now() + 0.3, write=True)
        through.hold = False
        assert await client.call(b"k", ("SET", "k", "later"), now() + 2, write=True) == b"OK"
        through.release()
        await asyncio.sleep(0.1)
        assert await client.call(b"k", ("GET", "k"), now() + 1) == b"later"


async def test_a_write_that_was_given_up_can_not_undo_a_later_one(server, opened):
    """Nobody waits for its answer any more, and it is stuck all the same."""
    async with FaultProxy(server.port) as through, opened(through.url, timeout=0.3) as client:
        await client.call(b"k", ("SET", "k", "first"), now() + 1, write=True)
        [connection] = client.nodes()[0].connections
        through.hold = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.call(b"k", ("SET", "k", "stuck"), now() + 0.3, write=True)
        through.hold = False
        async with asyncio.timeout(2):
            while connection.lost is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await client.call(b"k", ("SET", "k", "later"), now() + 2, write=True) == b"OK"
        through.release()
        await asyncio.sleep(0.1)
        assert await client.call(b"k", ("GET", "k"), now() + 1) == b"later"


async def test_where_it_may_not_be_stopped_that_is_said(server, opened):
    server.cli("ACL", "SETUSER", "default", "-client|kill")
    async with FaultProxy(server.port) as through, opened(through.url, timeout=0.3) as client:
        through.hold = True
        with pytest.raises(OutcomeUnknown):
            await client.call(b"k", ("SET", "k", "stuck"), now() + 0.3, write=True)
        through.hold = False
        assert await client.call(b"k", ("SET", "k", "later"), now() + 2, write=True) == b"OK"
        assert "+client|kill" in client.nodes()[0].unsettled


async def test_a_get_whose_connection_ends_is_asked_again_by_itself(server):
    async with FaultProxy(server.port) as through:
        backend = Redis(urls=[through.url], near=False)
        async with Cache(CacheConfig(backend=backend)) as cache:
            await cache.set("k", "v")
            server.freeze()
            read = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0)  # it is sent
            await asyncio.sleep(0)
            through.reset()
            server.thaw()

            assert await read == "v"
