"""Error replies that mean "not now": the server did nothing, and may do it later.

To who asked they are the same as a server that can't be reached, so a topology gives them as
`BackendUnavailable` once it has tried what it can.
"""

from __future__ import annotations

from typing import Final

from ..errors import BackendUnavailable, ServerError
from .connection import Reply

__all__ = ["NOT_NOW", "as_unavailable", "put_unavailable"]

NOT_NOW: Final = frozenset({"CLUSTERDOWN", "LOADING", "MASTERDOWN", "TRYAGAIN"})


def as_unavailable(error: ServerError, server: str) -> Exception:
    """``error`` itself, or what it means where it is one of `NOT_NOW`."""
    if error.code not in NOT_NOW:
        return error
    return BackendUnavailable(f"{server} can't answer now: {error}")


def put_unavailable(replies: list[Reply], server: str) -> list[Reply]:
    """``replies``, with those that mean "not now" replaced in place."""
    for place, reply in enumerate(replies):
        if type(reply) is ServerError:
            replies[place] = as_unavailable(reply, server)
    return replies
