"""What went wrong, as RFC 9457 has it: ``application/problem+json``.

``type`` is the name of a kind of problem, relative to the documentation; a client can rely on it
and on ``status``. ``detail`` is the error's own sentence, without credentials.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .. import errors
from ..config.secrets import masked

__all__ = ["PROBLEMS", "Problem", "Refused", "as_problem", "problem_response", "unmatched"]

_log = logging.getLogger(__name__)

_PREFIX: Final = "urn:clusterdb:cache:problem:"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document. ``retry_after`` is in seconds."""

    type: str
    title: str
    status: int
    detail: str = ""
    retry_after: float | None = None


class Refused(Exception):
    """A request that is not carried out: the kind of problem, and a sentence. ``closes``: what
    still comes on its connection is not to be read as another request.
    """

    def __init__(
        self, kind: str, detail: str, *, retry_after: float | None = None, closes: bool = False
    ) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.retry_after = kind, detail, retry_after
        self.closes = closes


PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "invalid-request": (400, "The request can't be read"),
    "invalid-argument": (400, "An argument breaks a rule"),
    "token-required": (401, "The token is missing or wrong"),
    "wrong-host": (403, "The server is not known by this name"),
    "wrong-origin": (403, "Pages of other origins may not use this server"),
    "read-only": (403, "The server only reads"),
    "not-found": (404, "There is no such page"),
    "no-entry": (404, "There is no entry under the key"),
    "unknown-region": (404, "There is no such region"),
    "method-not-allowed": (405, "The address does not take this method"),
    "request-timeout": (408, "The request did not arrive in time"),
    "type-mismatch": (409, "The entry is of another type"),
    "precondition-failed": (412, "The entry is not as the request requires"),
    "too-large": (413, "The request or the entry is too large"),
    "unsupported-media-type": (415, "The body is not JSON"),
    "row-refused": (422, "Storage does not take this row"),
    "too-many-requests": (429, "Too many requests"),
    "internal-error": (500, "The server failed"),
    "undecodable": (500, "The stored bytes can't be read"),
    "cache-error": (500, "The cache failed"),
    "not-supported": (501, "This cache can't do it"),
    "unavailable": (503, "The cache can't be reached"),
    "overloaded": (503, "Storage does not keep up"),
    "too-many-streams": (503, "Too many event streams"),
    "busy": (503, "The same is being done for somebody else"),
    "timeout": (504, "It took too long"),
    "out-of-memory": (507, "Memory is out"),
}
"""Every kind of problem: its status, and its title."""

_KINDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (errors.EntryTooLarge, "too-large"),
    (errors.InvalidArgument, "invalid-argument"),
    (errors.OutOfMemory, "out-of-memory"),
    (errors.UnknownRegion, "unknown-region"),
    (errors.TypeMismatch, "type-mismatch"),
    (errors.Undecodable, "undecodable"),
    (errors.NotSupported, "not-supported"),
    (errors.NoStorage, "not-supported"),
    (errors.MissingExtra, "not-supported"),
    (errors.RowRefused, "row-refused"),
    (errors.ScanTimeout, "timeout"),
    (errors.CacheClosed, "unavailable"),
    (errors.BackendUnavailable, "unavailable"),
    (errors.StorageUnavailable, "unavailable"),
    (errors.Overloaded, "overloaded"),
    (errors.CacheError, "cache-error"),
)
"""The first class that an error is an instance of says what it is."""


def as_problem(error: Exception) -> Problem:
    """The problem that an error is. One that nobody foresaw is logged, and told without words."""
    if isinstance(error, Refused):
        return _problem(error.kind, error.detail, error.retry_after)
    if isinstance(error, errors.BatchError):
        return as_problem(next(iter(error.failed.values())))
    if isinstance(error, TimeoutError) and not isinstance(error, errors.CacheError):
        return _problem("timeout", "the cache did not answer in time; ask for less, or later")
    for kind, name in _KINDS:
        if isinstance(error, kind):
            return _problem(name, masked(str(error)), getattr(error, "retry_in", None))
    _log.error("a request failed", exc_info=error)
    return _problem("internal-error", "the server's log says why")


def _problem(kind: str, detail: str, retry_after: float | None = None) -> Problem:
    status, title = PROBLEMS[kind]
    return Problem(
        type=_PREFIX + kind, title=title, status=status, detail=detail, retry_after=retry_after
    )


def problem_response(error: Exception) -> Response:
    """The answer to a request that an error ended."""
    problem = as_problem(error)
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after)))
    if isinstance(error, Refused) and error.closes:
        headers["Connection"] = "close"
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=headers,
    )


async def unmatched(request: Request, error: Exception) -> Response:
    """What no operation takes: an address that is none, or a method it has not."""
    kind, allowed = "not-found", {}
    if isinstance(error, HTTPException) and error.status_code == 405:
        kind, allowed = "method-not-allowed", dict(error.headers or {})
    what = f"{request.method} {request.url.path[:200]!r}: see openapi.json for what there is"
    response = problem_response(Refused(kind, what))
    response.headers.update({name: str(value) for name, value in allowed.items()})
    return response
