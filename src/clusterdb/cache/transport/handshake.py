"""From an address to a logged-in connection, or to an error that says what is wrong there.

TCP, TLS or a Unix socket; then ``HELLO 3`` with login and name, ``CLIENT ID``, ``SELECT``, all
written together and all before a deadline. RESP3 is needed: pushes come on the same connection.

The text of a server's error is never passed on from here: a server that doesn't know ``HELLO``
repeats the arguments, and with them the password.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from math import inf
from typing import Final, cast

from hiredis import ProtocolError

from ..errors import BackendUnavailable, ServerError
from .connection import Command, Connection
from .endpoint import Endpoint

__all__ = ["connect"]

_CLOSED: Final = (BackendUnavailable, ConnectionResetError, BrokenPipeError)
_REASONS: Final = {
    "WRONGPASS": "refused the login: wrong user name or password",
    "NOAUTH": "wants a login: set backend.password, and backend.username where it has users",
    "NOPERM": "refused the login: this user has no permission for HELLO, CLIENT ID or SELECT",
    "DENIED": "runs in protected mode: give it a password, or bind it to an address",
    "NOPROTO": "does not speak RESP3, which is needed: use Redis 6 or newer, or Valkey",
    "ERR": "does not know HELLO 3, so it speaks RESP2 only: use Redis 6 or newer, or Valkey, and"
    " no proxy that hides it",
}
_FULL: Final = "accepts no more clients: raise its maxclients, or lower pool.max_connections"
_UNKNOWN: Final = "refused to begin; its words are not shown, as they may repeat secrets"
_PLAIN: Final = "redis:// has no encryption, and a port with TLS needs rediss://"
_ENCRYPTED: Final = "rediss:// needs a port with TLS, and a port without it redis://"
_UNREACHABLE: Final = {
    errno.ECONNREFUSED: "nothing listens there: is it running, and on this port?",
    errno.ENOENT: "there is no such socket: is it running, and is the path right?",
    errno.EACCES: "this user may not open the socket: see its permissions",
    errno.EHOSTUNREACH: "no way leads to this host: see the network, and firewalls",
    errno.ENETUNREACH: "no way leads to this network: see the address, and routes",
    socket.EAI_NONAME: "no such host is known: see its name, and the name server",
}
_NOT_REDIS: Final = "is not a Redis server: check host and port"


async def connect(
    where: Endpoint, connection: Callable[[], Connection], timeout: float
) -> Connection:
    """A new connection to ``where``, ready for use.

    Raises `BackendUnavailable` at the latest after ``timeout`` seconds. Cost: one round trip, and
    those of TCP and TLS.
    """
    made: Connection | None = None

    def protocol() -> Connection:
        nonlocal made
        made = connection()
        return made

    problem = ""
    cause: BaseException | None = None
    try:
        async with asyncio.timeout(timeout):
            opened = await _open(where, protocol)
            problem = await _greet(opened, where)
            if not problem:
                return opened
    except TimeoutError:
        problem = f"did not answer within the connect timeout of {timeout:g} s"
        if not where.path:
            problem += f"; {_PLAIN if where.tls is None else _ENCRYPTED}"
    except OSError as error:  # BackendUnavailable and ssl.SSLError are some
        problem, cause = _explain(error, where, made), error
    finally:
        if made is not None and (problem or made.client_id == 0):
            made.abort(problem or "cancelled while it was opened")
    raise BackendUnavailable(f"Redis at {where.name}: {problem}") from _harmless(cause)


async def _open(where: Endpoint, connection: Callable[[], Connection]) -> Connection:
    loop = asyncio.get_running_loop()
    protocol = cast("Callable[[], asyncio.Protocol]", connection)
    if where.path:
        _, made = await loop.create_unix_connection(protocol, where.path)
    else:
        host = where.host if where.tls is not None else None
        _, made = await loop.create_connection(
            protocol, where.host, where.port, ssl=where.tls, server_hostname=host
        )
    return cast("Connection", made)


async def _greet(connection: Connection, where: Endpoint) -> str:
    """Log in. Return what is wrong, or nothing."""
    hello = connection.call(_hello(where), inf)
    rest = connection.calls(_preparations(where), inf)
    try:
        greeting = await hello
        client_id, *others = await rest
    except ServerError as error:
        return _reason(error)
    finally:
        rest.cancel()  # a server that refused us may not answer any more
    info = None if where.sentinel else others.pop()
    for reply in (client_id, *others):
        if isinstance(reply, ServerError):
            if where.database and reply is others[0] and reply.code == "ERR":
                return f"has no database {where.database}: check the URL"
            return _UNKNOWN if reply.code == "ERR" else _reason(reply)
    if not isinstance(greeting, dict) or not isinstance(client_id, int):
        return _NOT_REDIS
    connection.client_id = client_id
    connection.run_id = _run_id(info)
    return ""


def _run_id(info: object) -> str:
    """The server's process, by what ``INFO server`` said; empty where it may not be asked."""
    if not isinstance(info, bytes):
        return ""
    lines = [line for line in info.split(b"\r\n") if line.startswith(b"run_id:")]
    return lines[0].removeprefix(b"run_id:").decode() if lines else ""


def _hello(where: Endpoint) -> Command:
    hello: Command = ("HELLO", 3)
    if where.password is not None:
        hello += ("AUTH", where.username or "default", where.password)
    if where.client_name:
        hello += ("SETNAME", where.client_name)
    return hello


def _preparations(where: Endpoint) -> list[Command]:
    commands: list[Command] = [("CLIENT", "ID")]
    if where.database:
        commands.append(("SELECT", where.database))
    if where.replica:
        commands.append(("READONLY",))
    if not where.sentinel:
        commands.append(("INFO", "server"))
    return commands


def _reason(error: ServerError) -> str:
    if "max number of clients" in str(error):
        return _FULL
    return _REASONS.get(error.code, _UNKNOWN)


def _explain(error: OSError, where: Endpoint, made: Connection | None) -> str:
    """What a failed attempt means."""
    trouble: BaseException | None = error
    if isinstance(error, BackendUnavailable):
        trouble = made.trouble if made is not None else None
    if isinstance(trouble, ServerError):
        return _reason(trouble)
    if isinstance(trouble, ssl.SSLCertVerificationError):
        return f"its certificate was refused: {trouble.verify_message}; check tls.ca and the host"
    if isinstance(trouble, ssl.SSLError):
        return _explain_tls(trouble)
    if isinstance(trouble, ProtocolError | MemoryError):
        return _NOT_REDIS
    if isinstance(trouble, OSError) and not isinstance(trouble, _CLOSED):
        known = _UNREACHABLE.get(trouble.errno or 0)
        return f"can't be reached: {known or trouble.strerror or trouble}"
    if where.tls is not None:
        return "closed the connection during the handshake; does it want a client's certificate?"
    return f"closed the connection at once; {_PLAIN}"


def _explain_tls(error: ssl.SSLError) -> str:
    reason = (error.reason or "handshake failed").lower().replace("_", " ")
    if "certificate" in reason or "unknown ca" in reason:
        return f"refused this client's certificate ({reason}): check tls.cert and tls.key"
    return f"TLS failed ({reason}); {_ENCRYPTED}"


def _harmless(cause: BaseException | None) -> BaseException | None:
    """A cause that can't repeat secrets: an error of the system or of OpenSSL."""
    return None if isinstance(cause, BackendUnavailable) else cause
