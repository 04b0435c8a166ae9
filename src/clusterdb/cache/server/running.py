"""Running the application by uvicorn, until a signal ends it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from clusterdb.cache import Cache

from .application import build
from .places import Places
from .settings import ServerSettings

__all__ = ["run"]

_LONGEST_HEAD: Final = 256 * 1024
"""A key has up to 64 KiB, each byte of which is three characters in a query."""


async def run(
    cache: Cache, settings: ServerSettings, *, started: Callable[[str], None] | None = None
) -> None:
    """Serve ``cache`` until SIGINT or SIGTERM, or until cancelled; ``started`` is told the address.

    Raises :class:`ConfigError` where others could reach it unasked, OSError where it can't listen.
    """
    settings.check_reach()
    listener = await _listen(settings)
    streams = Places(settings.max_streams, "too-many-streams")
    server = _Server(_config(build(cache, settings, streams), settings))
    server.ending = streams.end
    server.begun = lambda: started and started(_address(settings, listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait({serving})
        listener.close()


class _Server(uvicorn.Server):
    """Says when it has begun, and when it ends."""

    begun: Callable[[], object]
    ending: Callable[[], object]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.ending()
        await super().shutdown(sockets)


async def _listen(settings: ServerSettings) -> socket.socket:
    """Listen before the server starts, so that a port that is taken is an error of ours."""
    found = await asyncio.get_running_loop().getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _address(settings: ServerSettings, port: int) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http{'s' if settings.certificate else ''}://{host}:{port}/"


def _config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    tls: dict[str, Any] = {}
    if settings.certificate is not None:
        tls = {"ssl_certfile": str(settings.certificate), "ssl_keyfile": str(settings.key)}
    if settings.client_ca is not None:
        tls |= {"ssl_ca_certs": str(settings.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return uvicorn.Config(
        app,
        http=_protocol(settings.body_timeout),
        ws="none",
        lifespan="off",
        log_config=None,  # the program's own logging stays as it is
        access_log=False,  # addresses hold keys
        server_header=False,
        proxy_headers=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        **tls,
    )


def _protocol(seconds: float) -> type[asyncio.Protocol]:
    """The protocol of uvicorn, and a deadline for the head of a request: it has none for a client
    that connects and says nothing, or sends its headers byte by byte.
    """

    class Impatient(H11Protocol):
        head: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._expect_head()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:
                self._expect_head()
            elif self.head is not None:
                self.head.cancel()
                self.head = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self.head is not None:
                self.head.cancel()
            super().connection_lost(exc)

        def _expect_head(self) -> None:
            if self.head is None:
                self.head = self.loop.call_later(seconds, self._too_late)

        def _too_late(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

    return Impatient
