"""Over real sockets: slow clients, too many of them, streams, and TLS."""

import asyncio
import contextlib
import json
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from clusterdb.cache import AlertConfig, Cache, ConfigError, MetricsConfig
from clusterdb.cache.server import ServerSettings, run

pytestmark = pytest.mark.server

ENTRY = "/v1/regions/default/entry"
JSON = "Content-Type: application/json"


async def test_it_answers_and_ends(serve, cache: Cache):
    served = await serve()
    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.put(ENTRY, params={"key": "k"}, json={"value": 1})).status_code == 200
        assert "server" not in (await client.get("/healthz")).headers
    assert await cache.get("k") == 1


async def test_a_client_that_says_nothing_is_sent_away(serve):
    served = await serve(body_timeout=0.2)
    async with served.connection() as silent, asyncio.timeout(10):
        assert await silent.ended() == b""


async def test_a_client_that_never_ends_its_headers_is_sent_away(serve):
    served = await serve(body_timeout=0.3)
    async with served.connection() as slow, asyncio.timeout(10):
        await slow.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(200):
                await slow.send(f"X-{number}: a\r\n")
                await asyncio.sleep(0.01)
        assert await slow.ended() == b""


async def test_nor_on_a_connection_that_was_used(serve):
    served = await serve(body_timeout=0.3)
    async with served.connection() as slow, asyncio.timeout(10):
        await slow.send(served.request("/healthz"))
        assert await slow.status() == 200
        await slow.send("GET /healthz HT")
        assert b"200" not in await slow.ended()


async def test_a_body_that_does_not_come(serve, cache: Cache):
    served = await serve(body_timeout=0.2)
    async with served.connection() as slow, asyncio.timeout(10):
        target = f"{ENTRY}?key=k"
        await slow.send(served.request(target, JSON, "Content-Length: 100", method="PUT"))
        await slow.send('{"value"')
        assert await slow.status() == 408
        await slow.ended()
    assert not await cache.exists("k")


async def test_a_body_that_is_too_large_is_not_taken(serve):
    served = await serve(max_body=1000)
    async with served.connection() as large, asyncio.timeout(10):
        lengths = JSON, "Content-Length: 100000000000"
        await large.send(served.request(f"{ENTRY}?key=k", *lengths, method="PUT"))
        assert await large.status() == 413
    async with served.connection() as large, asyncio.timeout(10):
        chunked = JSON, "Transfer-Encoding: chunked"
        await large.send(served.request(f"{ENTRY}?key=k", *chunked, method="PUT"))
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                await large.send("64\r\n" + "x" * 100 + "\r\n")
        assert await large.status() == 413


@pytest.mark.parametrize(
    "text",
    [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + "a" * 1_000_000 + "\r\n\r\n",
        "POST /v1/clear HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET http://evil.example/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /\xff\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
    ids=lambda text: repr(text[:20]),
)
async def test_what_is_no_request(serve, cache: Cache, text: str):
    served = await serve(body_timeout=1)
    await cache.set("k", 1)
    async with served.connection() as odd, asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            await odd.send(text)
        assert 400 <= await odd.status() < 500
    async with httpx.AsyncClient(base_url=served.url) as client:
        assert (await client.get("/healthz")).status_code == 200
    assert await cache.get("k") == 1


async def test_a_request_that_a_proxy_reads_otherwise_ends_its_connection(serve, cache: Cache):
    """What a proxy takes for the rest of the body would be a request here, or the other way."""
    served = await serve()
    await cache.set("k", 1)
    async with served.connection() as proxied, asyncio.timeout(10):
        both = JSON, "Content-Length: 4", "Transfer-Encoding: chunked"
        hidden = served.request("/v1/clear", JSON, "Content-Length: 2", method="POST") + "{}"
        await proxied.send(served.request("/v1/clear", *both, method="POST") + "0\r\n\r\n" + hidden)
        assert await proxied.status() == 400
        assert b"HTTP/1.1" not in await proxied.ended()
    assert await cache.get("k") == 1


async def test_the_longest_key_fits_into_an_address(serve, cache: Cache):
    served = await serve()
    key = "☃" * 21_845
    async with served.connection() as client, asyncio.timeout(10):
        body = '{"value": 1}'
        sent = JSON, f"Content-Length: {len(body)}"
        target = f"{ENTRY}?key={'%E2%98%83' * 21_845}"
        await client.send(served.request(target, *sent, method="PUT") + body)
        assert await client.status() == 200
    assert await cache.get(key) == 1


async def test_connections_are_bounded(serve):
    served = await serve(max_connections=5)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        idle = [await stack.enter_async_context(served.connection()) for _ in range(8)]
        await idle[-1].send(served.request("/healthz"))
        assert await idle[-1].status() == 503


async def test_connections_that_say_nothing_do_not_use_up_the_files_of_the_process(serve):
    """Those that are too many to be told so are closed at once, not after the time for a head."""
    served = await serve(max_connections=5, body_timeout=60)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        idle = [await stack.enter_async_context(served.connection()) for _ in range(30)]
        for socket in idle[10:]:
            assert await socket.ended() == b""
        assert not idle[0].reader.at_eof()


async def test_what_is_no_request_does_not_fill_the_log(serve, caplog):
    served = await serve(max_connections=5)
    for text in ("nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") * 5:
        async with served.connection() as odd, asyncio.timeout(10):
            await odd.send(text)
            assert await odd.status() >= 400
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(10):
        many = [await stack.enter_async_context(served.connection()) for _ in range(8)]
        await many[-1].send(served.request("/healthz"))
        assert await many[-1].status() == 503
    assert caplog.records == []


class Stream:
    """An open stream of events."""

    def __init__(self, socket) -> None:
        self._socket = socket

    async def next(self) -> tuple[str, dict]:
        while True:
            line = await self._socket.reader.readline()
            assert line, "the stream ended"
            if line.startswith(b"event: "):
                data = await self._socket.reader.readline()
                return line[7:-1].decode(), json.loads(data[6:])

    async def comment(self) -> bytes:
        while not (line := await self._socket.reader.readline()).startswith(b":"):
            assert line
        return line


async def open_stream(stack, served, query: str = "") -> Stream:
    socket = await stack.enter_async_context(served.connection())
    await socket.send(served.request(f"/v1/events{query}"))
    assert await socket.status() == 200
    while b"retry" not in await socket.reader.readline():
        pass
    return Stream(socket)


async def test_events_come_as_they_happen(serve, cache: Cache):
    served = await serve()
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        every = await open_stream(stack, served)
        some = await open_stream(stack, served, "?kind=invalidate_tag")
        keys = await open_stream(stack, served, "?region=session&key=a*")
        await cache.region("session").set("b\n\ndata: x", 1)
        await cache.region("session").set("a\n\nevent: x", 1)
        await cache.invalidate_tag("t")

        assert (await every.next())[1]["key"] == "b\n\ndata: x"
        assert (await every.next())[1]["key"] == "a\n\nevent: x"
        kind, told = await keys.next()
        assert (kind, told["key"]) == ("set", "a\n\nevent: x")
        assert (await some.next())[1]["tag"] == "t"


async def test_alerts_are_told_to_who_asks_for_them(serve, cache: Cache):
    served = await serve()
    alerts = AlertConfig(max_memory_usage=0.5)
    await cache.configure_monitoring(MetricsConfig(alerts=alerts))
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        stream = await open_stream(stack, served, "?kind=alert&kind=circuit")
        await cache.region("session").set("k", "x" * 900_000)
        await cache.access.runtime.sampling.take()
        kind, told = await stream.next()
        assert (kind, told["alert"], told["region"]) == ("alert", "max_memory_usage", "session")


async def test_a_stream_shows_signs_of_life(serve):
    served = await serve(heartbeat=0.05, timeout=0.1)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        stream = await open_stream(stack, served)
        for _ in range(5):  # also past the time limit of a plain request
            assert await stream.comment() == b": still here\n"


async def test_streams_are_bounded_and_free_their_place(serve, cache: Cache):
    served = await serve(max_streams=3, heartbeat=0.05)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(20):
        for _ in range(3):
            await open_stream(stack, served)
        async with served.connection() as refused:
            await refused.send(served.request("/v1/events"))
            assert await refused.status() == 503
        assert len(cache.access.runtime.events._subscriptions) == 3
    async with asyncio.timeout(20):
        while cache.access.runtime.events._subscriptions:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        async with contextlib.AsyncExitStack() as stack:
            await open_stream(stack, served)


async def test_thousands_of_streams_harm_nobody(serve, cache: Cache):
    served = await serve(max_streams=10, max_connections=100, rate=None)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        for _ in range(1000):
            with contextlib.suppress(OSError):
                socket = await stack.enter_async_context(served.connection())
                await socket.send(served.request("/v1/events"))
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        assert len(cache.access.runtime.events._subscriptions) <= 10


async def test_a_reader_that_sleeps_is_told_what_it_missed(serve, cache: Cache):
    served = await serve(stream_queue=10, write_timeout=20)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(30):
        stream = await open_stream(stack, served)
        for number in range(500):
            await cache.set(f"key:{number}", 1)  # without a pause: the stream has no turn
        seen, lost = 0, 0
        while seen + lost < 500:
            kind, told = await stream.next()
            seen, lost = (seen, lost + told["count"]) if kind == "gap" else (seen + 1, lost)
        assert lost > 0
        assert seen + lost == 500


async def test_a_reader_that_takes_nothing_is_cut_off(serve, cache: Cache):
    served = await serve(write_timeout=0.3, stream_queue=50)
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        await open_stream(stack, served)
        tag = "t" * 1000
        while cache.access.runtime.events._subscriptions:
            for _ in range(50):
                await cache.invalidate_tag(tag)
            await asyncio.sleep(0.001)


async def test_a_port_that_is_taken(serve, cache: Cache):
    served = await serve()
    with pytest.raises(OSError, match="in use"):
        await run(cache, ServerSettings(port=served.port))


async def test_it_does_not_listen_to_others_unasked(cache: Cache):
    with pytest.raises(ConfigError, match="token"):
        await run(cache, ServerSettings(host="0.0.0.0", port=0))


def certificate(folder: Path, name: str, signer: tuple[Path, Path] | None) -> tuple[Path, Path]:
    """A certificate and its key; of an authority of its own, or signed by one."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    new += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(pem)]
    new += ["-addext", "subjectAltName=IP:127.0.0.1"]
    if signer is not None:
        new += ["-CA", str(signer[0]), "-CAkey", str(signer[1])]
        new += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(new, check=True, capture_output=True)
    return pem, key


async def test_mutual_tls(serve, tmp_path: Path):
    authority = certificate(tmp_path, "authority", None)
    own, theirs = (certificate(tmp_path, name, authority) for name in ("server", "client"))
    served = await serve(certificate=own[0], key=own[1], client_ca=authority[0])
    context = ssl.create_default_context(cafile=authority[0])
    async with httpx.AsyncClient(base_url=served.url, verify=context) as stranger:
        with pytest.raises(httpx.TransportError):
            await stranger.get("/healthz")
    context.load_cert_chain(*theirs)
    async with httpx.AsyncClient(base_url=served.url, verify=context) as known:
        assert (await known.get("/v1/health")).status_code == 200


async def test_a_handshake_that_never_ends_is_cut(serve, tmp_path: Path):
    """By a limit of its own: asyncio's is a minute."""
    own = certificate(tmp_path, "server", None)
    served = await serve(certificate=own[0], key=own[1], handshake_timeout=0.2)
    async with asyncio.timeout(20):
        async with served.connection() as silent:
            assert await silent.ended() == b""
        async with served.connection() as begun:
            begun.writer.write(
                b"\x16\x03\x01\x02\x00\x01"
            )  # the head of a ClientHello, and no more
            assert await begun.ended() == b""
    context = ssl.create_default_context(cafile=own[0])
    async with httpx.AsyncClient(base_url=served.url, verify=context) as known:
        assert (await known.get("/healthz")).status_code == 200


async def test_a_stream_whose_request_never_ends_is_ended(serve, caplog):
    served = await serve(body_timeout=0.2)
    async with served.connection() as socket, asyncio.timeout(20):
        await socket.send(served.request("/v1/events", "Content-Length: 100"))
        assert await socket.status() == 200
        assert b"0\r\n\r\n" in await socket.ended()
    assert caplog.records == []
