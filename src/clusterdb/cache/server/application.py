"""The ASGI application, put together."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from clusterdb.cache import Cache

from .asking import Asked, answer
from .gate import Gate
from .openapi import describe
from .operations import OPERATIONS, Operation
from .pages import asset, page
from .places import Lasting
from .problems import Refused, problem_response, unmatched
from .settings import ServerSettings

__all__ = ["build", "make_app"]

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def make_app(cache: Cache, settings: ServerSettings | None = None) -> ASGIApp:
    """An ASGI application over ``cache``, to be mounted in another one, or run by itself.

    It neither starts nor closes the cache: whoever made it does. Without ``settings`` it answers
    only where it is asked for as ``localhost``: name its ``hosts`` behind another name, and let
    your application check who may use it, or give it a ``token``.
    """
    chosen = ServerSettings() if settings is None else settings
    return build(cache, chosen, Lasting(chosen.max_streams))


def build(cache: Cache, settings: ServerSettings, lasting: Lasting) -> ASGIApp:
    """The same, with the places of what lasts, for who ends that when the server ends."""
    routes = [
        Route("/", page, methods=["GET"]),
        Route("/assets/{name}", asset, methods=["GET"]),
        Route("/openapi.json", _description, methods=["GET"]),
    ]
    by_path: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        by_path.setdefault(operation.path, []).append(operation)
    for path, operations in by_path.items():
        methods = [operation.method for operation in operations]
        routes.append(Route(path, _endpoint(cache, settings, operations), methods=methods))
    app = Starlette(routes=routes, exception_handlers={HTTPException: unmatched})
    app.router.redirect_slashes = False
    app.state.lasting = lasting
    return Gate(app, settings, time.monotonic)


async def _description(_: Request) -> Response:
    return Response(describe(), media_type="application/json")


def _endpoint(cache: Cache, settings: ServerSettings, operations: list[Operation]) -> Endpoint:
    """One address: its operations by method. Every error becomes a problem document here."""
    by_method: dict[str, Operation] = {each.method: each for each in operations}

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        operation = by_method[method]
        try:
            if settings.read_only and operation.writes:
                return problem_response(
                    Refused("read-only", f"{operation.name} changes entries; this server reads")
                )
            if request.method == "HEAD" and operation.streams:
                return Response(media_type="text/event-stream")
            outcome = await operation.handler(Asked(request, cache, settings))
            return outcome if isinstance(outcome, Response) else _answered(operation, outcome)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged if unforeseen
            return problem_response(error)

    return endpoint


def _answered(operation: Operation, outcome: object) -> Response:
    status = next(iter(operation.answers))
    return Response(status_code=status) if outcome is None else answer(outcome, status)
