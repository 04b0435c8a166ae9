"""Opening connections: shared attempts, quick failures while a server is away, no hammering."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from clusterdb.cache.errors import BackendUnavailable
from clusterdb.cache.transport.connection import Connection
from clusterdb.cache.transport.lane import Lane


class Server:
    """Opens connections without sockets, or refuses to."""

    def __init__(self) -> None:
        self.away = False
        self.attempts = 0
        self.ends_at_once = False

    async def __call__(self, on_lost: Any) -> Connection:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.away:
            raise BackendUnavailable("nobody listens")
        made = Connection("fake", asyncio.get_running_loop().time, on_lost=on_lost)
        if self.ends_at_once:
            asyncio.get_running_loop().call_soon(made.abort, "ended")
        return made


@pytest.fixture
async def server():
    return Server()


@pytest.fixture
async def lane(server):
    lane = make(server)
    yield lane
    await lane.aclose()


def make(server, least=1, most=3):
    clock = asyncio.get_running_loop().time
    return Lane(server, clock, least=least, most=most, idle_timeout=60)


def soon(seconds=1.0):
    return asyncio.get_running_loop().time() + seconds


async def test_all_who_wait_share_one_attempt(lane, server):
    found = await asyncio.gather(*[lane.wait(soon()) for _ in range(100)])

    assert set(found) == {lane.pick()}
    assert server.attempts == 1


async def test_a_server_that_is_away_is_asked_once_and_then_known_to_be_away(lane, server):
    server.away = True
    for _ in range(100):
        with pytest.raises(BackendUnavailable, match="nobody listens"):
            await lane.wait(soon())

    assert server.attempts <= 2
    assert lane.down is not None


async def test_a_server_that_comes_back_is_found_without_any_call(lane, server):
    server.away = True
    with pytest.raises(BackendUnavailable):
        await lane.wait(soon())
    server.away = False
    async with asyncio.timeout(5):
        while True:
            if lane.pick() is not None:
                break
            await asyncio.sleep(0.005)

    assert lane.down is None


async def test_the_wait_for_a_connection_has_a_deadline():
    async def never(on_lost: Any) -> Connection:
        await asyncio.sleep(3600)
        raise AssertionError

    lane = make(never)
    with pytest.raises(BackendUnavailable, match="in time"):
        await lane.wait(soon(0.01))
    await lane.aclose()


async def test_a_caller_that_is_cancelled_harms_no_other(lane):
    impatient = asyncio.create_task(lane.wait(soon()))
    patient = asyncio.create_task(lane.wait(soon()))
    await asyncio.sleep(0)
    impatient.cancel()

    assert await patient is lane.pick()


async def test_a_lost_connection_is_replaced(lane):
    first = await lane.wait(soon())
    first.abort("lost")
    second = await lane.wait(soon())

    assert second is not first
    assert lane.connections == [second]


async def test_a_server_that_ends_every_connection_is_not_hammered(lane, server):
    server.ends_at_once = True
    with pytest.raises(BackendUnavailable):
        await lane.wait(soon(0.2))

    assert 2 <= server.attempts < 20


async def test_a_closed_lane_opens_nothing(server):
    lane = make(server)
    await lane.wait(soon())
    await lane.aclose()
    with pytest.raises(BackendUnavailable, match="closed"):
        await lane.wait(soon())

    assert server.attempts == 1
    assert not lane.busy
