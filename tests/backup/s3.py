"""A bucket of S3 over HTTP, with faults: the server is moto's, in a thread, on a port of its own.

A fault is a function that looks at a request and, if it is to fail, answers it. The reply that it
answers with may be cut short, or never come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import httpx
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from clusterdb.cache import S3

__all__ = ["Bucket", "Environ", "Fault", "S3Server", "corrupt", "error", "stall", "truncate"]

Environ: TypeAlias = dict[str, Any]
Start: TypeAlias = Callable[..., Any]
Fault: TypeAlias = Callable[[Environ, Start, Callable[[], list[bytes]]], Iterable[bytes] | None]
"""Answers a request in place of the bucket, or gives ``None``; the last argument asks the bucket.
"""


class S3Server:
    """The server; ``fault`` stands before all of its requests."""

    def __init__(self) -> None:
        self._app: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=MotoRequestHandler
        )
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.fault: Fault | None = None
        self.requests: list[tuple[str, str]] = []
        self._buckets = 0

    def bucket(self) -> Bucket:
        self._buckets += 1
        name = f"backups-{self._buckets}"
        httpx.put(f"{self.endpoint}/{name}").raise_for_status()
        return Bucket(self, name)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: Environ, start: Start) -> Iterable[bytes]:
        self.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if self.fault is not None:
            answer = self.fault(environ, start, lambda: list(self._app(environ, start)))
            if answer is not None:
                return answer
        found: Iterable[bytes] = self._app(environ, start)
        return found


class Bucket:
    """An empty bucket of its own."""

    def __init__(self, server: S3Server, name: str) -> None:
        self.server, self.name = server, name

    def config(self, **settings: Any) -> S3:
        given: dict[str, Any] = {
            "timeout": 5,
            "retries": 2,
            "prefix": "daily/",
            "access_key": "a",
            "secret_key": "b",
        }
        return S3(
            bucket=self.name,
            endpoint=self.server.endpoint,
            region="us-west-2",
            **(given | settings),
        )

    def get(self, name: str) -> bytes:
        return httpx.get(f"{self.server.endpoint}/{self.name}/{name}").raise_for_status().content

    def put(self, name: str, content: bytes) -> None:
        httpx.put(f"{self.server.endpoint}/{self.name}/{name}", content=content).raise_for_status()


def error(status: str, code: str, times: float, matches: Callable[[Environ], bool]) -> Fault:
    """The first ``times`` requests that match get an error."""
    left = [times]

    def answer(
        environ: Environ, start: Start, ask: Callable[[], list[bytes]]
    ) -> Iterable[bytes] | None:
        del ask
        if not matches(environ) or left[0] <= 0:
            return None
        left[0] -= 1
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


def stall(matches: Callable[[Environ], bool], until: threading.Event) -> Fault:
    """Requests that match get no answer before ``until``."""

    def answer(
        environ: Environ, start: Start, ask: Callable[[], list[bytes]]
    ) -> Iterable[bytes] | None:
        del start, ask
        if matches(environ):
            until.wait(30)
        return None

    return answer


def truncate(matches: Callable[[Environ], bool]) -> Fault:
    """What is downloaded ends in the middle, and the connection with it."""
    return _changed(matches, lambda body: [body[: len(body) // 2]])


def corrupt(matches: Callable[[Environ], bool]) -> Fault:
    """A bit of what is downloaded is another."""

    def flip(body: bytes) -> list[bytes]:
        at = len(body) // 2
        return [body[:at], bytes([body[at] ^ 1]), body[at + 1 :]]

    return _changed(matches, flip)


def _changed(matches: Callable[[Environ], bool], change: Callable[[bytes], list[bytes]]) -> Fault:
    def answer(
        environ: Environ, start: Start, ask: Callable[[], list[bytes]]
    ) -> Iterable[bytes] | None:
        del start
        if not matches(environ):
            return None
        return _pieces(change(b"".join(ask())))

    return answer


def _pieces(pieces: list[bytes]) -> Iterator[bytes]:
    yield from pieces
