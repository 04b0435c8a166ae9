"""Where a server is and how to log in there: what `Redis` settings say, ready for the handshake.

URLs were checked when the configuration was built; here they are only taken apart. An `Endpoint`
shows no credentials in its ``repr`` and its ``name`` may stand in any message.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, unquote, urlsplit

from ..config import Redis, SentinelConfig, TlsConfig
from ..errors import ConfigError

__all__ = ["Endpoint", "encryption", "endpoint", "endpoints", "sentinels"]

_PORT = 6379


@dataclass(frozen=True)
class Endpoint:
    """One server: ``host`` and ``port``, or the ``path`` of a Unix socket; and the login.

    ``replica`` asks a replica of a cluster to answer reads itself. A ``sentinel`` holds no keys.
    """

    host: str = ""
    port: int = 0
    path: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    database: int = 0
    client_name: str = ""
    replica: bool = False
    sentinel: bool = False

    @property
    def name(self) -> str:
        """The address as a person writes it."""
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, host: str, port: int, *, replica: bool = False) -> Endpoint:
        """The same login on another server, in database 0 or the one of this endpoint."""
        return replace(self, host=host, port=port, path="", replica=replica)


def encryption(tls: TlsConfig | None) -> ssl.SSLContext:
    """The rules of a TLS connection: the certificate and the host name are always checked.

    Raises `ConfigError` for a file that can't be read. Reads files: call it once.
    """
    tls = TlsConfig() if tls is None else tls
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:  # ssl.SSLError is one
        raise _unreadable("ca", tls.ca, error) from error
    if tls.cert is not None and tls.key is not None:
        try:
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
        except OSError as error:
            raise _unreadable("cert", f"{tls.cert} with {tls.key}", error) from error
    return context


def _no_passphrase() -> str:
    """Answer OpenSSL, which would ask the terminal."""
    return ""


def _unreadable(setting: str, path: str | None, error: OSError) -> ConfigError:
    where = f"cache.backend.tls.{setting}"
    reason = getattr(error, "reason", None) or error.strerror or "not a PEM file"
    return ConfigError(f"{where}: {path} can't be used: {reason}", path=where)


def endpoint(
    url: str,
    *,
    tls: ssl.SSLContext | None,
    username: str | None,
    password: str | None,
    client_name: str = "",
) -> Endpoint:
    """One URL of the configuration; what it says about the login goes before the arguments."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    user, _, secret = login.partition(":")
    if at and (user or secret):
        username, password = unquote(user) or None, unquote(secret) or None
    unix = parts.scheme == "unix"
    database = parse_qs(parts.query).get("db", ["0"])[0] if unix else parts.path.strip("/")
    return Endpoint(
        host="" if unix else parts.hostname or "",
        port=0 if unix else parts.port or _PORT,
        path=unquote(parts.path) if unix else "",
        tls=None if unix else tls,
        username=username,
        password=password,
        database=int(database or 0),
        client_name=client_name,
    )


def _tls(config: Redis) -> ssl.SSLContext | None:
    """A ``tls`` block encrypts whatever the scheme; ``rediss://`` does so without one."""
    wanted = config.tls is not None or config.urls[0].startswith("rediss:")
    return encryption(config.tls) if wanted else None


def endpoints(config: Redis, client_name: str = "") -> list[Endpoint]:
    """The servers that ``config.urls`` names, in their order.

    Raises `ConfigError` for TLS files that can't be used.
    """
    tls = _tls(config)
    login = {"username": config.username, "password": config.password}
    return [endpoint(url, tls=tls, client_name=client_name, **login) for url in config.urls]


def sentinels(
    config: Redis, sentinel: SentinelConfig, client_name: str = ""
) -> tuple[list[Endpoint], Endpoint]:
    """The sentinels that ``config.urls`` names, and the login of the servers they look after.

    A login inside of a URL is the sentinels', its database the servers'. Raises `ConfigError` for
    TLS files that can't be used.
    """
    tls = _tls(config)
    login = {"username": sentinel.username, "password": sentinel.password}
    found = [endpoint(url, tls=tls, client_name=client_name, **login) for url in config.urls]
    servers = replace(found[0], username=config.username, password=config.password)
    return [replace(each, database=0, sentinel=True) for each in found], servers
