"""What was invalidated on a primary that is gone is invalidated again, whoever asks when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import pytest
from tests.builds import needs_pure

from clusterdb.cache.backends.redis.link import Link
from clusterdb.cache.backends.redis.succession import Succession
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.errors import BackendUnavailable

pytestmark = needs_pure


class Servers:
    """A link to one primary, which can be replaced; what is sent waits for ``answering``."""

    promotes = True

    def __init__(self) -> None:
        self.version = 0
        self.primary = "first"
        self.sent: list[tuple[str, bytes]] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.away = False

    @property
    def topology(self) -> Servers:
        return self

    def nodes(self) -> list[Any]:
        return [_Named(self.primary)]

    def node_for(self, name: bytes) -> Any:
        return _Named(self.primary)

    def replace(self, name: str) -> None:
        self.primary = name
        self.version += 1

    async def send(self, commands: Sequence[Any], names: Any, *, write: bool) -> list[Any]:
        await self.answering.wait()
        if self.away:
            raise BackendUnavailable("away")
        self.sent += [(command[0], command[1]) for command in commands]
        return [1] * len(commands)


class _Named(NamedTuple):
    name: str


@pytest.fixture
def servers() -> Servers:
    return Servers()


@pytest.fixture
async def succession(servers: Servers) -> Any:
    async def clear(region: str) -> None:
        servers.sent.append(("CLEAR", region.encode()))

    made = Succession(cast("Link", servers), SystemClock(), clear)
    made.start()
    yield made
    await made.aclose()


async def test_nothing_is_done_again_while_nobody_was_replaced(servers, succession):
    succession.note("entry", [b"k"], succession.version)
    assert not succession.due
    servers.version += 1  # a replica came
    assert succession.due
    await succession.repeat()

    assert (servers.sent, succession.moment, succession.due) == ([], 0, False)


async def test_what_the_old_primary_acknowledged_is_done_again(servers, succession):
    since = succession.version
    succession.note("entry", [b"k"], since)
    succession.note("nonce", [b"t"], since)
    succession.note("region", [b"r"], since)
    servers.replace("second")
    await succession.repeat()

    assert servers.sent == [("UNLINK", b"k"), ("SET", b"t"), ("CLEAR", b"r")]
    assert succession.moment == 1
    assert succession.problems


async def test_what_was_under_way_during_the_change_is_done_again(servers, succession):
    """The old primary may have acknowledged it after everything else was done again."""
    since = succession.version
    servers.replace("second")
    await succession.repeat()
    assert not succession.due
    succession.note("entry", [b"k"], since)
    assert succession.due
    await succession.repeat()

    assert servers.sent == [("UNLINK", b"k")]
    assert not succession.due


async def test_it_is_due_until_it_was_done(servers, succession):
    """Whoever reads in the meantime has to wait for it, and it is done once."""
    succession.note("entry", [b"k"], succession.version)
    servers.replace("second")
    servers.answering.clear()
    waiting = [asyncio.create_task(succession.repeat()) for _ in range(3)]
    await asyncio.sleep(0)
    assert succession.due
    waiting[0].cancel()
    servers.answering.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(each) for each in done] == [asyncio.CancelledError, type(None), type(None)]
    assert servers.sent == [("UNLINK", b"k")]
    assert not succession.due


async def test_it_stays_due_where_it_failed(servers, succession):
    succession.note("entry", [b"k"], succession.version)
    servers.replace("second")
    servers.away = True
    with pytest.raises(BackendUnavailable):
        await succession.repeat()
    assert succession.due
    servers.away = False
    await succession.repeat()

    assert servers.sent == [("UNLINK", b"k")]


async def test_it_is_done_again_though_nobody_reads(servers, succession):
    succession.note("entry", [b"k"], succession.version)
    servers.replace("second")
    async with asyncio.timeout(10):
        while succession.due:  # noqa: ASYNC110 - it has a beat of its own
            await asyncio.sleep(0.01)

    assert servers.sent == [("UNLINK", b"k")]
