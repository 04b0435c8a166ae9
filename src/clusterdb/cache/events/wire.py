"""Events as messages on a channel between processes: versioned, small, bounded.

A message is JSON: who sent it, how many events that sender had sent before, and events as
:mod:`.types` has them, in order. The running number is what makes a loss visible: a receiver that
finds a hole knows how many events are missing. ``docs/reference/events.md`` says the same for other
languages, and ``tests/unit/cache/events/test_wire.py`` pins the bytes.

Whoever can write to the channel can write anything. So nothing here is trusted: what is too large,
is of another version, or is no message at all is refused by its reason, and no event adds anything
to a cache. Pickle and its like were never considered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from .types import (
    Cleared,
    EntryDeleted,
    EntryEvicted,
    EntryExpired,
    EntrySet,
    Event,
    EventGap,
    Invalidated,
    Loaded,
    MatchingInvalidated,
    NodeDown,
    NodeUp,
    TagInvalidated,
)

__all__ = ["MAX_BYTES", "Message", "Refused", "pack", "unpack"]

VERSION: Final = 1
MAX_BYTES: Final = 64 * 1024
"""A message is at most so long."""
_MAX_EVENTS: Final = 1000

_Known = (
    EntrySet
    | EntryDeleted
    | Invalidated
    | MatchingInvalidated
    | TagInvalidated
    | Cleared
    | EntryEvicted
    | EntryExpired
    | Loaded
    | NodeDown
    | NodeUp
    | EventGap
)


class Message(msgspec.Struct, frozen=True):
    """What a sender said: ``events`` after the first ``sent`` of its life."""

    cache: str
    sender: str
    sent: int
    events: list[Any]


class Refused(ValueError):
    """A message that can't be used: it is too large, of another version, or none."""

    def __init__(self, reason: Literal["oversized", "unknown", "garbage"]) -> None:
        super().__init__(reason)
        self.reason = reason


class _Header(msgspec.Struct, frozen=True):
    v: int


class _Body(msgspec.Struct, frozen=True):
    cache: Annotated[str, Meta(max_length=64)]
    sender: Annotated[str, Meta(min_length=1, max_length=64)]
    origin: Annotated[str, Meta(max_length=512)]
    sent: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    events: Annotated[list[_Known], Meta(max_length=_MAX_EVENTS)]


_encode: Final = msgspec.json.Encoder().encode
_header: Final = msgspec.json.Decoder(_Header).decode
_body: Final = msgspec.json.Decoder(_Body).decode


def pack(
    cache: str, sender: str, origin: str, sent: int, events: Iterable[Event]
) -> Iterator[bytes]:
    """The messages that tell of ``events``, ``sent`` events having been sent before; one without
    events where there are none. An event that fits into no message is told as a gap of one.
    """
    said = {"v": VERSION, "cache": cache, "sender": sender, "origin": origin}
    head = _encode(said)[:-1]
    room = MAX_BYTES - len(head) - 64
    chunk: list[bytes] = []
    size = 0
    for event in events:
        encoded = _encode(replace(event, origin=""))
        if len(encoded) > room:
            encoded = _encode(EventGap(count=1, reason="large", time=event.time))
        if chunk and (size + len(encoded) + 1 > room or len(chunk) == _MAX_EVENTS):
            yield _message(head, sent, chunk)
            sent += len(chunk)
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded) + 1
    yield _message(head, sent, chunk)


def _message(head: bytes, sent: int, events: list[bytes]) -> bytes:
    return b'%s,"sent":%d,"events":[%s]}' % (head, sent, b",".join(events))


def unpack(data: bytes) -> Message:
    """What a message says. Raises :class:`Refused`."""
    if len(data) > MAX_BYTES:
        raise Refused("oversized")
    try:
        version = _header(data).v
        if version != VERSION:
            raise Refused("unknown")
        body = _body(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("garbage") from error
    events: list[Event] = [replace(event, origin=body.origin) for event in body.events]
    return Message(body.cache, body.sender, body.sent, events)
