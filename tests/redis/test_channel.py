"""The channel on real servers: between processes, and when connections and servers go away."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from tests.redis.backends import flush
from tests.redis.listening import invalidation, listened, private, shared, the_next, traffic
from tests.redis.load import until
from tests.redis.proxy import FaultProxy
from tests.redis.servers import Deployment, Server, start

from clusterdb.cache import (
    Cache,
    CacheConfig,
    Cleared,
    ConfigError,
    EntryDeleted,
    EntrySet,
    EventGap,
    Invalidated,
    MatchingInvalidated,
    Memory,
    Redis,
    RedisStream,
    TagInvalidated,
)
from clusterdb.cache.events.wire import MAX_BYTES

KINDS = ["channel", "stream"]

OTHER = """
import asyncio, json, os, sys
from clusterdb.cache import *

config = CacheConfig.from_dict(json.loads(sys.argv[1]))

async def main():
    async with Cache(config) as cache:
        print(os.getpid(), flush=True)
        await cache.set("k", 1, tags=("t",))
        await cache.delete("k")
        await cache.invalidate("j")
        await cache.invalidate_matching("user:*")
        await cache.invalidate_tag("t")
        await cache.clear()

asyncio.run(main())
"""


def alone(server: Server) -> Deployment:
    return Deployment("standalone", [f"redis://127.0.0.1:{server.port}"], [server])


def as_document(kind: str, url: str) -> str:
    name = {"channel": {"type": "redis", "channel": "cache-invalidation"}}
    name["stream"] = {"type": "redis_stream", "stream": "cache-invalidation"}
    backend = {"type": "redis", "urls": [url]}
    return json.dumps({
        "cache": {"name": "test", "backend": backend},
        "invalidation": {"notification": {"backend": name[kind]}},
    })  # fmt: skip


def subscribers(server: Server) -> list[str]:
    """The connections that listen, by their numbers at the server."""
    lines = server.cli("CLIENT", "LIST").splitlines()
    found = [dict(part.split("=", 1) for part in line.split()) for line in lines]
    ours = [each for each in found if each["name"] == "clusterdb-cache"]
    return [each["id"] for each in ours if each["sub"] == "1" or each["cmd"] == "xread"]


@pytest.mark.parametrize("kind", KINDS)
async def test_what_another_process_does_is_told(standalone, kind):
    flush(standalone)
    async with shared(kind, standalone) as cache, cache.get_events() as events:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", OTHER, as_document(kind, standalone.urls[0])],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        told = [await the_next(events) for _ in range(6)]

    assert [type(event) for event in told] == [
        EntrySet, EntryDeleted, Invalidated, MatchingInvalidated, TagInvalidated, Cleared,
    ]  # fmt: skip
    assert {event.origin.rpartition(":")[2] for event in told} == {done.stdout.strip()}
    assert told[0].tags == ("t",)
    assert 0 < told[0].version < told[1].version < told[2].version


@pytest.mark.parametrize("kind", KINDS)
async def test_memories_of_several_processes_are_kept_together(server, kind):
    url = f"redis://127.0.0.1:{server.port}"
    async with private(kind, url) as one, private(kind, url) as two, private(kind, url) as three:
        for number, cache in enumerate((one, two, three)):
            async with cache.subscribe(EntrySet) as events:
                writer = (two, three, one)[number]
                await writer.set("k", number)
                assert (await the_next(events)).key == "k"
            assert await cache.get("k") is None
            assert await writer.get("k") == number


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_connection_is_told_as_a_gap_or_leaves_none(server, kind):
    """Of a channel something may have been missed, of a stream nothing was."""
    deployment = alone(server)
    async with (
        shared(kind, deployment) as one,
        shared(kind, deployment) as other,
        other.get_events() as events,
    ):
        await one.set("a", 1)
        assert (await the_next(events)).key == "a"
        for connection in subscribers(server):
            server.cli("CLIENT", "KILL", "ID", connection)
        for number in range(20):  # some of these while nobody listens
            await one.set(f"k{number}", 1)
        told: list[Any] = []
        while not told or getattr(told[-1], "key", "") != "last":
            if not told or isinstance(told[-1], EventGap):
                await one.set("last", 1)
            told.append(await the_next(events))
            if kind == "channel" and isinstance(told[-1], EventGap):
                await one.set("last", 1)
        keys = [event.key for event in told if isinstance(event, EntrySet)]
        gaps = [event for event in told if isinstance(event, EventGap)]

    if kind == "channel":
        assert [gap.reason for gap in gaps] == ["reconnect"]
        assert keys[-1] == "last"
    else:
        assert gaps == []
        assert [key for key in keys if key != "last"] == [f"k{number}" for number in range(20)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_started_anew_is_told_as_a_gap(server, kind):
    """A stream was lost with it."""
    deployment = alone(server)
    async with (
        shared(kind, deployment) as one,
        shared(kind, deployment) as other,
        other.subscribe(EntrySet) as events,
    ):
        await one.set("a", 1)
        assert (await the_next(events)).key == "a"
        server.kill()
        server.start()
        gap = await the_next(events)
        assert isinstance(gap, EventGap)
        assert gap.reason == "reconnect"
        while True:
            try:
                await one.set("b", 1)
                break
            except Exception:  # noqa: BLE001 - the connection was lost
                await asyncio.sleep(0.05)
        assert (await the_next(events)).key == "b"


async def test_a_reader_that_the_server_drops_is_told(server):
    """A subscriber that does not read is cut off by the server, and finds out."""
    deployment = alone(server)
    server.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 100kb 0 0")
    async with shared("channel", deployment) as cache, cache.subscribe(EntryDeleted) as events:
        await until(lambda: subscribers(server))
        flood = "x" * 50_000
        # nothing is read while this blocks the loop
        script = "for i = 1, 2000 do redis.call('PUBLISH', 'cache-invalidation', ARGV[1]) end"
        for _ in range(5):
            server.cli("EVAL", script, "0", flood)
        gap = await the_next(events)
        assert isinstance(gap, EventGap)
        assert gap.reason == "reconnect"


async def test_a_stream_that_was_cut_meanwhile_is_told_as_a_gap(server):
    async with (
        FaultProxy(server.port) as proxy,
        private("stream", proxy.url) as cache,
        cache.subscribe(EntrySet, EntryDeleted) as events,
    ):
        await cache.set("k", 1)
        await cache.delete("k")
        assert [(await the_next(events)).key for _ in range(2)] == ["k", "k"]
        await until(lambda: traffic(cache).echoes)
        proxy.mute = True  # it is read, and the answer does not come
        for _ in range(2):
            server.cli("XADD", "cache-invalidation", "MAXLEN", "=", "1", "*", "m", "lost")
        proxy.mute = False
        proxy.reset()
        gap = await the_next(events)
        assert isinstance(gap, EventGap)
        assert gap.reason == "reconnect"


async def test_a_stream_keeps_about_as_much_as_it_is_told(server):
    server_config = Redis(urls=[f"redis://127.0.0.1:{server.port}"])
    notification = invalidation("stream", server_config).notification
    assert notification is not None
    small = RedisStream(stream="s", max_length=100, server=server_config)
    from msgspec.structs import replace

    config = CacheConfig(
        backend=Memory(),
        invalidation=replace(
            invalidation("stream", server_config),
            notification=replace(notification, backend=small),
        ),
    )
    async with Cache(config) as cache:
        for number in range(1000):
            await cache.set(f"k{number}", 1)
            await asyncio.sleep(0)
    assert int(server.cli("XLEN", "s")) < 400


@pytest.mark.parametrize("kind", KINDS)
async def test_a_frozen_server_does_not_hold_writers_up_and_is_told(server, kind):
    url = f"redis://127.0.0.1:{server.port}"
    async with private(kind, url) as cache, cache.subscribe(EventGap) as events:
        server.freeze()
        try:
            async with asyncio.timeout(1):
                for number in range(1000):
                    await cache.set(f"k{number}", 1)
            await until(lambda: "can't be heard" in cache.access.runtime.exchange.problem)
            health = await cache.get_health()
            assert health.status == "degraded"
        finally:
            server.thaw()
        await until(lambda: not cache.access.runtime.exchange.problem)
        if kind == "channel":
            assert (await the_next(events)).reason == "reconnect"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_memory_is_empty_after_a_gap(server, kind):
    url = f"redis://127.0.0.1:{server.port}"
    async with private(kind, url) as cache, cache.subscribe(EventGap) as events:
        await cache.set("k", 1)
        server.kill()
        server.start()
        assert isinstance(await the_next(events), EventGap)
        assert await cache.get("k") is None


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_away_at_first_does_not_keep_a_memory_from_starting(server, kind):
    url = f"redis://127.0.0.1:{server.port}"
    server.kill()
    async with asyncio.timeout(20), private(kind, url) as cache:
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        async with cache.subscribe(EventGap) as events:
            server.start()
            assert (await the_next(events)).reason == "reconnect"


async def test_hostile_messages_are_counted_and_do_nothing(server):
    url = f"redis://127.0.0.1:{server.port}"
    async with private("channel", url) as cache:
        await cache.set("k", 1)
        hostile = [b"x" * (MAX_BYTES + 1), b'{"v":7}', b"\xff", b"[" * 50_000]
        hostile.append(json.dumps({"v": 1, "cache": "another", "sender": "x", "origin": "o",
                                   "sent": 0, "events": [{"kind": "clear", "region": "default"}]
                                   }).encode())  # fmt: skip
        for message in hostile:
            server.ask("PUBLISH", "cache-invalidation", message.decode("latin-1"))
        await until(lambda: traffic(cache).foreign)
        found = traffic(cache)
        assert (found.oversized, found.unknown, found.garbage) == (1, 1, 2)
        metrics = {metric.name: metric.value for metric in await cache.get_metrics()}
        assert metrics["cache_channel_garbage"] == 2
        assert await cache.get("k") == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", ["sentinel", "cluster", "ring", "tls"])
async def test_it_works_on_every_topology(request, topology, kind):
    deployment = request.getfixturevalue(topology)
    async with (
        shared(kind, deployment) as one,
        shared(kind, deployment) as other,
        other.subscribe(Invalidated) as events,
    ):
        await one.invalidate("k")
        assert (await the_next(events)).key == "k"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", ["sentinel", "cluster"])
async def test_a_failover_is_followed_and_told(tmp_path, topology, kind):
    deployment = start(topology, tmp_path)
    try:
        async with listened(kind, deployment) as (one, events):
            await one.invalidate("a")
            assert (await the_next(events)).key == "a"
            masters = [each for each in deployment.servers if subscribers(each)]
            assert len(masters) == 1
            masters[0].kill()
            router: Any = one.access.runtime.exchange._router

            async def tell() -> None:
                while True:
                    router.offer(Invalidated(region="default", key="after"))
                    await asyncio.sleep(0.1)

            telling = asyncio.create_task(tell())
            told: list[Any] = []
            while not told or getattr(told[-1], "key", "") != "after":
                told.append(await the_next(events, 30))
            telling.cancel()
            if kind == "channel":
                assert isinstance(told[0], EventGap)
    finally:
        deployment.stop()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_user_who_may_not_is_told_so(server, kind):
    server.cli("ACL", "SETUSER", "default", "resetchannels", "-xadd", "-xread", "-subscribe")
    deployment = alone(server)
    async with shared(kind, deployment) as cache, cache.subscribe(EntrySet):
        await cache.set("k", 1)
        await until(lambda: "NOPERM" in cache.access.runtime.exchange.problem)
        details = [check.detail for check in (await cache.get_health()).checks]
        assert any("NOPERM" in detail for detail in details)


async def test_it_can_be_configured_while_the_cache_runs(server):
    url = f"redis://127.0.0.1:{server.port}"
    redis = Redis(urls=[url])
    async with Cache(CacheConfig(name="test")) as one, private("channel", url) as other:
        await one.set("kept", 1)
        await one.configure_invalidation(invalidation("channel", redis))
        assert await one.get("kept") == 1
        async with other.subscribe(Invalidated) as events:
            await one.invalidate("k")
            assert (await the_next(events)).key == "k"
            await one.configure_invalidation(invalidation("stream", redis))
            await until(lambda: len(subscribers(server)) == 2)
            await one.configure_invalidation(invalidation("channel", redis))
            await one.invalidate("l")
            assert (await the_next(events)).key == "l"


def test_memories_of_sync_users_are_kept_together(server):
    url = f"redis://127.0.0.1:{server.port}"
    with Cache(CacheConfig(name="test")).sync as one, private("channel", url).sync as other:
        one.set("before", 1)
        one.configure_invalidation(invalidation("channel", Redis(urls=[url])))
        other.set("k", 1)
        with other.subscribe(Invalidated) as events:
            one.invalidate("k")
            event: Any = next(events)
            assert event.key == "k"
        assert other.get("k") is None
        assert one.get("before") == 1


def test_a_channel_needs_a_server():
    with pytest.raises(ConfigError, match=r"backend\.server"):
        Cache(CacheConfig(invalidation=invalidation("channel")))


FORKING = """
import asyncio, json, os, sys
from clusterdb.cache import *

cache = Cache(CacheConfig.from_dict(json.loads(sys.argv[1])))

async def use(key):
    await cache.invalidate(key)

async def parent():
    await use("before")
    child = os.fork()
    if not child:
        return
    status = await asyncio.to_thread(os.waitpid, child, 0)
    await use("parent")
    await cache.aclose()
    print(status[1])

async def in_child():
    await use("child")
    await cache.aclose()

loop = asyncio.new_event_loop()
task = loop.create_task(parent())
pid = os.getpid()
task.add_done_callback(lambda _: loop.stop())
loop.run_forever()
if os.getpid() != pid:
    asyncio.events._set_running_loop(None)
    asyncio.run(in_child())
    os._exit(0)
loop.close()
"""


@pytest.mark.parametrize("kind", KINDS)
async def test_a_forked_child_tells_as_itself(standalone, kind):
    async with shared(kind, standalone) as cache, cache.subscribe(Invalidated) as events:
        words = [sys.executable, "-W", "ignore::ResourceWarning", "-c", FORKING]
        done = await asyncio.to_thread(
            subprocess.run, [*words, as_document(kind, standalone.urls[0])],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.stdout == "0\n", done.stderr
        told = [await the_next(events) for _ in range(3)]
    origins = {event.key: event.origin for event in told}
    assert origins["before"] == origins["parent"] != origins["child"]


async def test_near_hits_and_reads_make_no_traffic(standalone):
    async with shared("channel", standalone) as cache:
        await cache.set("k", 1)
        await until(lambda: traffic(cache).sent == 1)
        for _ in range(100):
            await cache.get("k")
            await cache.exists("k")
        assert traffic(cache).sent == 1
