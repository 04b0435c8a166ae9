"""A served cache, for the commands: its operations over HTTP, by the standard library.

A redirection is not followed, so that the token goes nowhere else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from clusterdb.cache import (
    BackendUnavailable,
    CacheError,
    InvalidArgument,
    NotSupported,
    TypeMismatch,
)
from clusterdb.monitoring import Health, HealthCheck, Metric

from ..advice import Advice
from ..config.secrets import masked
from ..overview import Overview
from ..tally import HotKeys

__all__ = ["ServedView", "Server", "region_path"]

T = TypeVar("T")
Query: TypeAlias = Mapping[str, str | list[str]]

_TIMEOUT: Final = 35.0
"""Seconds for an answer, of which a server gives up thirty."""
_SILENCE: Final = 60.0
"""Seconds without a sign of life after which a stream counts as broken; a server sends one every
fifteen.
"""
_LONGEST: Final = 64 * 1024 * 1024
_LONGEST_LINE: Final = 8 * 1024 * 1024
_ERRORS: Final[dict[int, type[CacheError]]] = {
    400: InvalidArgument,
    401: InvalidArgument,
    403: NotSupported,
    404: InvalidArgument,
    409: TypeMismatch,
    413: InvalidArgument,
    429: BackendUnavailable,
    501: NotSupported,
    503: BackendUnavailable,
    504: BackendUnavailable,
}


class Server:
    """A server by its URL. One connection a request: a command makes few."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url, self._token = masked(url), token
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidArgument(f"{self.url} is no URL of a server: {error}") from None
        if not self._host or parts.query or parts.username or parts.password:
            raise InvalidArgument(
                f"{self.url} is no URL of a server: write http://host:port, and put its token into "
                f"CLUSTERDB_CACHE_TOKEN"
            )
        self._https = parts.scheme.lower() == "https"
        self._base = parts.path.rstrip("/")

    def ask(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        *,
        timeout: float = _TIMEOUT,
    ) -> tuple[int, Any]:
        """Status and document of the answer. Raises the error that a problem stands for, but for
        the statuses 404 and 412 of an entry, and :class:`BackendUnavailable` without an answer.
        """
        with self._answer(method, path, query, body, headers, timeout) as (response, _):
            return self._read(response)

    def get(self, path: str, kind: type[T], query: Query | None = None, **options: Any) -> T:
        """The document of an operation that observes."""
        return self._as(self.ask("GET", path, query, **options)[1], kind)

    def _as(self, document: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(document, kind)
        except msgspec.ValidationError as error:
            raise BackendUnavailable(
                f"{self.url} answers otherwise than this version of clusterdb-cache expects "
                f"({error}): use the version that serves it"
            ) from None

    def follow(
        self,
        path: str,
        kind: type[T],
        query: Query,
        limit: float | None,
        begun: Callable[[], None],
    ) -> Iterator[T]:
        """The data of server-sent events, for ``limit`` seconds; ``begun`` is called before the
        first. Raises :class:`BackendUnavailable` when the server ends it, or is silent.
        """
        until = None if limit is None else time.monotonic() + limit
        with self._answer("GET", path, query, None, None, _TIMEOUT) as (response, connection):
            if response.status != 200:
                self._read(response)
            begun()
            while True:
                left = _SILENCE if until is None else until - time.monotonic()
                if left <= 0:
                    return
                if connection.sock is not None:
                    connection.sock.settimeout(min(left, _SILENCE))
                try:
                    line = response.readline(_LONGEST_LINE)
                except TimeoutError:
                    if until is not None and time.monotonic() >= until:
                        return
                    raise
                if not line:
                    raise BackendUnavailable(f"the server {self.url} has ended the stream")
                if line.startswith(b"data: "):
                    yield self._as(json.loads(line[6:]), kind)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: Query | None,
        body: dict[str, Any] | None,
        headers: dict[str, str] | None,
        timeout: float,
    ) -> Iterator[tuple[HTTPResponse, HTTPConnection]]:
        """Send a request; its answer, not yet read, as long as the block lasts."""
        sent = dict(headers or {})
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token}"
        content = None
        if body is not None:
            content, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        target = self._base + path + (f"?{urlencode(query, doseq=True)}" if query else "")
        kind = HTTPSConnection if self._https else HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout)
        try:
            connection.request(method, target, body=content, headers=sent)
            yield connection.getresponse(), connection
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            if isinstance(error, CacheError):
                raise
            refused = isinstance(error, ConnectionRefusedError)
            why = (
                "nothing listens there: does 'cache serve' run, on this port?" if refused else error
            )
            raise BackendUnavailable(f"the server {self.url} can't be asked: {why}") from error
        finally:
            connection.close()

    def _read(self, response: HTTPResponse) -> tuple[int, Any]:
        content = response.read(_LONGEST)
        try:
            document = json.loads(content) if content else None
        except (ValueError, RecursionError):
            document = None
        status = response.status
        if status < 300:
            return status, document
        if not isinstance(document, dict) or "detail" not in document:
            raise BackendUnavailable(f"{self.url} is no cache server: it answered {status}")
        if status == 412 or str(document.get("type", "")).endswith(":no-entry"):
            return status, None
        raise _ERRORS.get(status, CacheError)(str(document["detail"]))


class ServedView:
    """A served cache, to be looked at. What it tells of itself counts for all processes where its
    backend counts for all, and else for the one that serves it.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    @property
    def at(self) -> list[str]:
        return [self._server.url]

    async def overview(self) -> Overview:
        return self._server.get("/v1/overview", Overview)

    async def metrics(self) -> list[Metric]:
        """The samples of the serving process, which has counted loads and latencies too."""
        return self._server.get("/v1/metrics", dict[str, list[Metric]])["metrics"]

    async def health(self) -> Health:
        """What stands in the way of its work."""
        checks = self._server.get("/v1/health", _Report).checks
        return Health(checks)

    async def advice(self, region: str) -> Advice:
        """What another size or policy would do for a region."""
        return self._server.get(f"{region_path(region)}/advice", Advice)

    async def hot_keys(self, region: str, query: Query, seconds: float) -> HotKeys:
        """The keys that are read most, which may take ``seconds``."""
        path = f"{region_path(region)}/hot-keys"
        return self._server.get(path, HotKeys, query, timeout=seconds + _TIMEOUT)


class _Report(msgspec.Struct):
    checks: tuple[HealthCheck, ...]


def region_path(name: str) -> str:
    """Where the operations of a region are."""
    return f"/v1/regions/{quote(name, safe='')}"
