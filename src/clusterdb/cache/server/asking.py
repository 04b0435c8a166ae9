"""What a request asks: its region, its query, its body, and its conditions."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from clusterdb.cache import Cache, Region

from .gate import DEADLINE
from .places import Lasting
from .problems import Refused
from .settings import ServerSettings

__all__ = ["Asked", "answer", "etag"]

T = TypeVar("T")

_ETAG: Final = re.compile(r'\s*"(\d{1,30})"\s*')


class Asked:
    """A request, read. Whatever in it can't be read raises :class:`Refused`."""

    def __init__(self, request: Request, cache: Cache, settings: ServerSettings) -> None:
        self.request, self.cache, self.settings = request, cache, settings

    @property
    def region(self) -> Region[Any]:
        """The region of the path. Raises :class:`UnknownRegion`."""
        name: str = self.request.path_params["region"]
        return self.cache.region(name)

    @property
    def lasting(self) -> Lasting:
        """The places of answers that last."""
        found: Lasting = self.request.app.state.lasting
        return found

    @property
    def key(self) -> str:
        """The key of the query. A path could not hold each key there is, such as ``..``."""
        return self.text("key")

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter of the query, which may stand there once."""
        given = self.request.query_params.getlist(name)
        if len(given) > 1:
            raise Refused("invalid-request", f"{name} stands {len(given)} times in the query")
        if not given and default is None:
            raise Refused("invalid-request", f"the query has no {name}: add ?{name}=...")
        return given[0] if given else default or ""

    def texts(self, name: str) -> list[str]:
        """A parameter of the query that may stand there several times."""
        return self.request.query_params.getlist(name)

    def number(self, name: str, default: int, most: int) -> int:
        """A whole number of the query, from 1 on."""
        text = self.text(name, str(default))
        if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) or not 1 <= int(text) <= most:
            raise Refused("invalid-request", f"{name} is a whole number from 1 to {most}")
        return int(text)

    def flag(self, name: str) -> bool:
        """``true`` or ``false`` of the query; false unless it stands there."""
        text = self.text(name, "false")
        if text not in {"true", "false"}:
            raise Refused("invalid-request", f"{name} is true or false, not {text[:60]!r}")
        return text == "true"

    def may_take(self, seconds: float | None) -> None:
        """Let this request take so long, ``None``: without end, whatever the settings say."""
        deadline: asyncio.Timeout = self.request.scope[DEADLINE]
        loop = asyncio.get_running_loop()
        deadline.reschedule(None if seconds is None else loop.time() + seconds)

    async def body(self, kind: type[T]) -> T:
        """The JSON body. Only what is declared as JSON is read: a form of a page can't be."""
        media = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json":
            raise Refused("unsupported-media-type", "send 'Content-Type: application/json'")
        try:
            return msgspec.json.decode(await self.request.body(), type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Refused("invalid-request", f"the body: {error}") from None

    def version_wanted(self) -> int | str | None:
        """What ``If-Match`` requires: a version, ``*`` for any, ``None`` for nothing."""
        given = self.request.headers.get("if-match")
        if given is None or given.strip() == "*":
            return "*" if given else None
        found = _ETAG.fullmatch(given)
        if found is None or int(found[1]) < 1:
            raise Refused("invalid-request", f"If-Match is one version in quotes, not {given[:60]}")
        return int(found[1])

    def wants_absent(self) -> bool:
        """Whether ``If-None-Match: *`` requires that there is no entry."""
        given = self.request.headers.get("if-none-match")
        if given is None:
            return False
        if given.strip() == "*":
            return True
        raise Refused("invalid-request", "a write takes If-None-Match only as *")

    def knows(self, version: int) -> bool:
        """Whether the client says by ``If-None-Match`` that it has this version."""
        given = self.request.headers.get("if-none-match", "")
        each = [tag.strip().removeprefix("W/") for tag in given.split(",")]
        return given.strip() == "*" or etag(version) in each


def etag(version: int) -> str:
    """A version as an entity tag."""
    return f'"{version}"'


def answer(document: object, status: int = 200, **headers: str) -> Response:
    """A document as JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = msgspec.json.encode(document, enc_hook=_plain)
    return Response(content, status_code=status, media_type="application/json", headers=named)


def _plain(value: object) -> object:
    """A ByteSize is an int, and is to be one on the wire."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
