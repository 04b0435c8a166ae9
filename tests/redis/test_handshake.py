"""What is wrong with a server or a login is said in words, in time, and without secrets."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from tests.redis.conftest import now
from tests.redis.servers import HOST, PASSWORD, USER

from clusterdb.cache.config import TlsConfig
from clusterdb.cache.errors import BackendUnavailable, ConfigError

SECRET = "hunter2hunter2"


def quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def client_tls(certificates, ca="ca", client="client"):
    crt, key = certificates / f"{client}.crt", certificates / f"{client}.key"
    return TlsConfig(ca=certificates / f"{ca}.crt", cert=crt, key=key)


async def refusal(opened, *urls, **settings) -> str:
    """The text of the error, and of its whole traceback, which must not show the password."""
    began = monotonic()
    with pytest.raises(BackendUnavailable) as caught:
        async with opened(*urls, **settings):
            pass
    assert monotonic() - began < 2  # the connect timeout is one second
    shown = "".join(traceback.format_exception(caught.value))
    assert SECRET not in shown
    assert PASSWORD not in shown
    return str(caught.value)


async def answer(topology, *words):
    return await topology.call(None, words, now() + 1)


async def test_name_database_and_protocol(standalone, opened):
    async with opened(f"{standalone.urls[0]}/3") as client:
        await client.call(b"k", ("SET", "only in 3", 1), now() + 1, write=True)
        info = (await answer(client, "CLIENT", "INFO")).decode()

    assert "name=test" in info
    assert "db=3" in info
    assert "resp=3" in info


async def test_a_unix_socket(standalone, opened):
    async with opened(f"unix://{standalone.servers[0].socket_path}?db=2") as client:
        assert "db=2" in (await answer(client, "CLIENT", "INFO")).decode()


async def test_tls_with_a_client_certificate_and_a_user(tls, opened):
    settings = {"username": USER, "password": PASSWORD, "tls": client_tls(tls.certificates)}
    async with opened(tls.urls[0], **settings) as client:
        assert await answer(client, "ACL", "WHOAMI") == USER.encode()


async def test_a_login_inside_of_the_url_is_percent_encoded(tls, opened):
    url = tls.urls[0].replace("//", f"//{USER}:{quoted(PASSWORD)}@")
    async with opened(url, tls=client_tls(tls.certificates)) as client:
        assert await answer(client, "ACL", "WHOAMI") == USER.encode()


async def test_wrong_password(tls, opened):
    settings = {"username": USER, "password": SECRET, "tls": client_tls(tls.certificates)}
    assert "wrong user name or password" in await refusal(opened, tls.urls[0], **settings)


async def test_no_password(tls, opened):
    text = await refusal(opened, tls.urls[0], tls=client_tls(tls.certificates))
    assert "set backend.password" in text


async def test_a_server_of_an_unknown_authority(tls, opened):
    rogue = client_tls(tls.certificates, ca="rogue-ca")
    text = await refusal(opened, tls.urls[0], username=USER, password=PASSWORD, tls=rogue)
    assert "certificate was refused" in text


async def test_a_server_under_another_name(tls, opened):
    port = tls.servers[0].port
    settings = {"username": USER, "password": PASSWORD, "tls": client_tls(tls.certificates)}
    async with relay(port, "127.0.0.2") as other:
        text = await refusal(opened, f"rediss://127.0.0.2:{other}", **settings)
    assert "certificate was refused" in text
    assert "127.0.0.2" in text


@pytest.mark.parametrize("client", ["rogue-client", None])
async def test_a_client_that_the_server_does_not_trust(tls, opened, client):
    config = TlsConfig(ca=tls.certificates / "ca.crt")
    if client is not None:
        config = client_tls(tls.certificates, client=client)
    text = await refusal(opened, tls.urls[0], username=USER, password=PASSWORD, tls=config)
    assert "tls.cert" in text or "client's certificate" in text


async def test_plain_text_to_a_port_with_tls(tls, opened):
    url = tls.urls[0].replace("rediss", "redis")
    assert "needs rediss://" in await refusal(opened, url, username=USER, password=SECRET)


async def test_tls_to_a_port_without(standalone, tls, opened):
    url = standalone.urls[0].replace("redis", "rediss")
    text = await refusal(opened, url, tls=client_tls(tls.certificates))
    assert "redis://" in text


async def test_nobody_listens(opened):
    assert "can't be reached" in await refusal(opened, "redis://127.0.0.1:1")


async def test_no_such_host(opened):
    assert "can't be reached" in await refusal(opened, "redis://no-such-host.invalid")


async def test_no_such_database(standalone, opened):
    assert "no database 99" in await refusal(opened, f"{standalone.urls[0]}/99")


async def test_no_such_socket(tmp_path, opened):
    assert "can't be reached" in await refusal(opened, f"unix://{tmp_path}/none.sock")


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a Redis server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not a Redis server"),
        (b"+OK\r\n+OK\r\n+OK\r\n", "not a Redis server"),
        (b"-NOPROTO unsupported protocol version\r\n:1\r\n", "Redis 6 or newer"),
        (
            f"-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, "
            f"`{SECRET}`\r\n:1\r\n".encode(),
            "speaks RESP2 only",
        ),
        (f"-ODD {SECRET}\r\n:1\r\n".encode(), "not shown"),
        (b"", "closed the connection"),
    ],
)
async def test_a_port_that_is_not_the_redis_we_need(opened, says, expected):
    async def play(reader, writer):
        await reader.read(100)
        writer.write(says)

    async with listener(play) as port:
        assert expected in await refusal(opened, f"redis://{HOST}:{port}", password=SECRET)


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        (b"-DENIED Redis is running in protected mode\r\n", "protected mode"),
        (b"-ERR max number of clients reached\r\n", "no more clients"),
    ],
)
async def test_a_server_that_refuses_before_it_is_asked(opened, says, expected):
    async def play(reader, writer):
        writer.write(says)

    async with listener(play) as port:
        assert expected in await refusal(opened, f"redis://{HOST}:{port}")


async def test_a_port_that_says_nothing(opened):
    async def play(reader, writer):
        await reader.read()

    async with listener(play) as port:
        text = await refusal(opened, f"redis://{HOST}:{port}")
        assert "did not answer within the connect timeout of 1 s" in text


async def test_a_server_with_no_place_left(server, opened):
    server.cli("CONFIG", "SET", "maxclients", "1")
    async with opened(f"redis://{HOST}:{server.port}"):
        text = await refusal(opened, f"redis://{HOST}:{server.port}")

    assert "no more clients" in text


def test_files_that_are_no_certificates(tls, tmp_path):
    from clusterdb.cache.transport.endpoint import encryption

    (tmp_path / "not.pem").write_text("nothing")
    with pytest.raises(ConfigError, match=r"tls\.ca: .*not\.pem"):
        encryption(TlsConfig(ca=tmp_path / "not.pem"))
    with pytest.raises(ConfigError, match=r"tls\.ca: .*none\.pem"):
        encryption(TlsConfig(ca=tmp_path / "none.pem"))
    key = tls.certificates / "rogue-client.key"
    with pytest.raises(ConfigError, match=r"tls\.cert"):
        encryption(TlsConfig(cert=tls.certificates / "client.crt", key=key))


Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listener(play: Play, host: str = HOST) -> AsyncIterator[int]:
    """A port that does what `play` says, then closes the connection."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await play(reader, writer)
            await writer.drain()
        finally:
            writer.close()

    running = await asyncio.start_server(accept, host, 0)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def relay(port: int, host: str) -> AsyncIterator[int]:
    """The server at `port` under another address."""

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            sink.write(data)
        sink.close()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, out = await asyncio.open_connection(HOST, port)
        await asyncio.gather(copy(reader, out), copy(back, writer), return_exceptions=True)

    async with listener(play, host) as there:
        yield there
