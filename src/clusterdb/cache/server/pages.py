"""The files of the admin page. They hold nothing of the cache: what it shows it asks for."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from .problems import Refused, problem_response

__all__ = ["asset", "page"]

_TYPES: Final = {
    "admin.css": "text/css",
    "admin.js": "text/javascript",
    "charts.js": "text/javascript",
    "client.js": "text/javascript",
    "entry.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
"""Only what stands here is given: no path reaches the file system."""


@cache
def _content(name: str) -> bytes:
    return (files(__package__) / "assets" / name).read_bytes()


async def page(_: Request) -> Response:
    """The page."""
    return Response(_content("admin.html"), media_type="text/html")


async def asset(request: Request) -> Response:
    """One of its files."""
    name: str = request.path_params["name"]
    if name not in _TYPES:
        return problem_response(Refused("not-found", f"there is no file {name[:60]!r}"))
    return Response(_content(name), media_type=_TYPES[name])
