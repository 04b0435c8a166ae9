"""Running the application by uvicorn, until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
import ssl
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from clusterdb.cache import Cache

from .application import build
from .places import Lasting
from .settings import ServerSettings

__all__ = ["run"]

_QUIET: Final = logging.getLogger("clusterdb.cache.server.http")
"""Where failures are told. What clients do wrong is not: they could fill the log with it."""
_QUIET.setLevel(logging.ERROR)

_LONGEST_HEAD: Final = 256 * 1024
"""A key has up to 64 KiB, each byte of which is three characters in a query."""


async def run(
    cache: Cache, settings: ServerSettings, *, started: Callable[[str], None] | None = None
) -> None:
    """Serve ``cache`` until SIGINT or SIGTERM, or until cancelled; ``started`` is told the address.
    SIGTERM makes it return, so that what surrounds it can end in order; SIGINT is handed on, and
    is a KeyboardInterrupt there.

    Raises :class:`ConfigError` where others could reach it unasked, OSError where it can't listen
    or read its certificate.
    """
    settings.check_reach()
    _check_certificate(settings)
    listener = await _listen(settings)
    lasting = Lasting(settings.max_streams)
    server = _Server(_config(build(cache, settings, lasting), settings))
    if settings.certificate is not None:
        server.patience = settings.handshake_timeout
    server.ending = lasting.end
    server.begun = lambda: started and started(_address(settings, listener.getsockname()[1]))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait({serving})
        listener.close()


class _Server(uvicorn.Server):
    """Says when it has begun, and when it ends. ``patience``: seconds for each end of TLS."""

    begun: Callable[[], object]
    ending: Callable[[], object]
    patience: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen here: uvicorn has no setting for how long a handshake may take, and asyncio waits
        a minute for one.
        """
        await super().startup([])
        for each in sockets or []:
            self.servers.append(
                await asyncio.get_running_loop().create_server(
                    self._protocol,
                    sock=each,
                    ssl=self.config.ssl,
                    backlog=self.config.backlog,
                    ssl_handshake_timeout=self.patience,
                    ssl_shutdown_timeout=self.patience,
                )
            )
        self.begun()

    def _protocol(self) -> asyncio.Protocol:
        made: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = made(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Of what is handled here uvicorn raises the signal again when it has ended, and SIGTERM
        would end the process before the cache is closed.
        """
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.ending()
        await super().shutdown(sockets)


def _check_certificate(settings: ServerSettings) -> None:
    """Read the files of TLS, for an error that names them."""
    if settings.certificate is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.client_ca is not None:
            context.load_verify_locations(settings.client_ca)
    except OSError as error:
        files = f"{settings.certificate} with key {settings.key}"
        if settings.client_ca is not None:
            files += f" and authority {settings.client_ca}"
        raise OSError(f"the certificate can't be used ({files}): {error}") from error


async def _listen(settings: ServerSettings) -> socket.socket:
    """Listen before the server starts, so that a port that is taken is an error of ours."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise OSError(f"there is no address {settings.host!r}: {error}") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise OSError(
            error.errno, f"port {settings.port} is in use: choose another one, or 0 for any"
        ) from error
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
        http=_protocol(settings.body_timeout, 2 * settings.max_connections),
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


def _protocol(seconds: float, most: int) -> type[asyncio.Protocol]:
    """The protocol of uvicorn, and two limits that it has not: a deadline for the head of a
    request, for clients that connect and say nothing, or send their headers byte by byte; and
    ``most`` connections, whether anything is said on them or not.
    """

    class Impatient(H11Protocol):
        head: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            self.logger = _QUIET
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
            else:
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
