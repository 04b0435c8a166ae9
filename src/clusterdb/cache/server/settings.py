"""What the server may do, for whom, and how much of it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..errors import ConfigError

__all__ = ["LOOPBACK", "ServerSettings", "is_loopback"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_SHORTEST_TOKEN: Final = 16

Positive = Annotated[float, Meta(gt=0)]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than localhost counts as no."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the cache is served.

    ``host`` and ``port``: where :func:`run` listens. ``token``: what a request must carry, as
    ``Authorization: Bearer``. ``certificate`` and ``key``: files of TLS; ``client_ca``: whose
    certificates clients must show. ``read_only``: refuse whatever changes an entry. ``hosts``: the
    names by which the server may be asked for; without any those of this machine, or with a token
    all. ``origins``: other web origins whose pages may use it. ``max_body`` is in bytes. ``rate``:
    requests a second of one address, twice as many at once; ``None`` for any number.
    ``timeout``, ``body_timeout``, ``write_timeout``: seconds for an answer, until a request is
    there, and for a client to take what is sent; ``handshake_timeout``: for the handshake of TLS,
    and for its end. ``max_streams``: event streams at once,
    ``stream_queue``: events that wait in each; ``heartbeat``: seconds between signs of life.
    ``max_connections``: connections at once.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8765
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    read_only: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body: int = 8 * 1024 * 1024
    rate: Positive | None = 200.0
    timeout: Positive = 30.0
    body_timeout: Positive = 10.0
    write_timeout: Positive = 30.0
    handshake_timeout: Positive = 5.0
    max_streams: int = 32
    stream_queue: int = 256
    heartbeat: Positive = 15.0
    max_connections: int = 256

    def __post_init__(self) -> None:
        """Check what can be checked without a socket. Raises :class:`ConfigError`."""
        if self.token is not None and (len(self.token) < _SHORTEST_TOKEN or not _plain(self.token)):
            raise ConfigError(
                f"the server's token is {_SHORTEST_TOKEN} or more visible ASCII characters; make "
                f'one by: python -c "import secrets; print(secrets.token_urlsafe(32))"',
                path="server.token",
            )
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(
                "TLS takes a certificate and its key: give both files, or none", path="server.key"
            )
        if self.client_ca is not None and self.certificate is None:
            raise ConfigError(
                "client certificates need TLS: give the server's certificate and key too",
                path="server.client_ca",
            )

    def check_reach(self) -> None:
        """Raise :class:`ConfigError` where anybody could reach what only this machine may use."""
        if is_loopback(self.host) or self.token is not None:
            return
        if self.client_ca is None:
            raise ConfigError(
                f"address {self.host!r} can be reached from other machines: it needs a token "
                f"(--token-file, or CLUSTERDB_CACHE_TOKEN) or client certificates "
                f"(--tls-client-ca); or listen on 127.0.0.1",
                path="server.host",
            )
        if not self.hosts:
            raise ConfigError(
                f"address {self.host!r} with client certificates needs the names by which browsers "
                f"ask for it: --allow-host NAME",
                path="server.hosts",
            )

    def __repr__(self) -> str:
        """Without the token."""
        shown = [f"{name}={getattr(self, name)!r}" for name in ("host", "port", "read_only")]
        return f"ServerSettings({', '.join(shown)}, ...)"


def _plain(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token
