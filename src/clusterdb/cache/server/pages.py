"""The files of the admin page. They hold nothing of the cache: what it shows it asks for."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from .problems import Refused, problem_response

__all__ = ["asset", "page"]

_SCRIPTS: Final = (
    "admin", "advice", "alerts", "charts", "client", "entry", "events", "figures", "latency",
    "page", "words",
)  # fmt: skip
_TYPES: Final = {
    "admin.css": "text/css",
    "icon.svg": "image/svg+xml",
    **{f"{name}.js": "text/javascript" for name in _SCRIPTS},
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
