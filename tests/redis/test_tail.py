"""`cache events tail` over Redis: what another process does shows up."""

import asyncio
import json

from tests.redis.listening import shared
from tests.redis.servers import Deployment, Server
from tests.unit.cache.cli.commands import program


def alone(server: Server) -> Deployment:
    return Deployment("standalone", [f"redis://127.0.0.1:{server.port}"], [server])


async def test_tail_shows_what_another_process_does(server):
    url = f"redis://127.0.0.1:{server.port}?name=test&channel=cache-invalidation"
    async with shared("channel", alone(server)) as cache:
        with program("events", "tail", "--url", url, "--json", "--count", "4") as tail:
            assert tail.stderr is not None
            assert await asyncio.to_thread(tail.stderr.readline) == (
                "cache: following; Ctrl-C ends it\n"
            )
            await cache.set("k", 1, tags=("t",))
            await cache.delete("k")
            await cache.invalidate("k")
            await cache.invalidate_tag("t")
            out, _ = await asyncio.to_thread(tail.communicate, None, 30)
        origin = cache.access.runtime.origin
    told = [json.loads(line) for line in out.splitlines()]
    assert [each["kind"] for each in told] == ["set", "delete", "invalidate", "invalidate_tag"]
    assert {each["origin"] for each in told} == {origin}
    assert told[0]["tags"] == ["t"]


async def test_without_a_channel_it_says_that_nobody_else_is_heard(server):
    url = f"redis://127.0.0.1:{server.port}?name=test"
    with program("events", "tail", "--url", url, "--for", "1s") as tail:
        _, error = await asyncio.to_thread(tail.communicate, None, 30)
    assert "no channel is configured" in error
