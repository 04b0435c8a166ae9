"""The cache over HTTP, and its admin page: an ASGI application.

``make_app(cache)`` gives the application, to be mounted in one's own or run by any ASGI server;
``run(cache)`` runs it by itself, as ``cache serve`` does. It needs the extra ``server``.

A request passes :class:`.Gate` (who may ask, how much, how long), is matched with a row of the one
table of operations (:mod:`.operations`), and carried out by its handler. What goes wrong becomes a
problem document (:mod:`.problems`). The page in ``assets/`` is a client of these operations like
any other.
"""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import MissingExtra

if find_spec("starlette") is None or find_spec("uvicorn") is None:
    raise MissingExtra("the HTTP server", "server")

from .application import make_app
from .running import run
from .settings import ServerSettings

__all__ = ["ServerSettings", "make_app", "run"]
