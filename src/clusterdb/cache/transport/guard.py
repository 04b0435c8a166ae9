"""What a ring needs from those who know its keys, so that these can move while they are used.

While keys move from server to server, a command about one that gets another server is first sent to
the old one in a form that does nothing there unless the key is still there; then to the new one.
How that is said to a server is not for a transport to know: see :mod:`..backends.redis.guarding`.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from ..errors import ServerError
from .connection import Command, Reply

__all__ = ["LEFT", "MIXED", "STALE", "Guard", "Left", "left"]

LEFT: Final = "LEFT"
MIXED: Final = "MIXED"
STALE: Final = "STALE"


class Left(NamedTuple):
    """The keys of a command have left their server: for each a ``1``, if what it had was taken over
    to the new one, or ``0``, if it ended where it was.
    """

    flags: str


class Guard(Protocol):
    """How commands are said to servers while keys move. ``record`` is the key under which each
    server keeps the placement; ``label`` is what connections are called.
    """

    record: bytes
    label: str

    def stays(self, key: bytes) -> bool:
        """Whether a key has the same server whatever the weights are: what those agree by who move
        keys has to be there while they move.
        """
        ...

    def at_old(self, command: Command, key: bytes, version: str) -> Command:
        """``command`` for the server that its keys leave: carried out if all of them are there, or
        if nothing moves there yet. Else it does nothing and answers with an error: `LEFT` and the
        flags of `Left`, `MIXED` where only some are there, `STALE` where the server's placement is
        another than ``version``.
        """
        ...

    def at_new(self, command: Command, key: bytes, flags: str) -> Command:
        """``command`` for the server that its keys have gone to, with what the old one said of each
        key: what was taken over is put in place first.
        """
        ...


def left(reply: Reply) -> Left | None:
    """What an old server said, if it is that the keys have left."""
    if isinstance(reply, ServerError) and reply.code == LEFT:
        return Left(str(reply).split(" ", 2)[1])
    return None
