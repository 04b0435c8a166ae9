"""The nonces of tags that are known without asking, so that tags cost nothing in the steady state.

A nonce is read over the tracked connection of the server that holds it, and is known until a push
says that it changed, or the connection that it was read over ends. A read in flight is marked, as
that of an entry is: where a push comes before its reply, the reply is used once and not remembered.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ...errors import BackendUnavailable, ServerError
from ...near import HIDDEN
from ...transport import Reply
from .nonces import Nonces, Stamps, nonce_of
from .tracking import Tracked

__all__ = ["Known", "state_of"]

_MOST: Final = 100_000


class _Nonce(NamedTuple):
    """A nonce that is current as long as the source it was read from tells of no other."""

    nonce: int
    tracked: Tracked
    source: str


class Known:
    """What is known of tags. ``tracked_for`` gives the tracked connection of a key's server."""

    def __init__(self, nonces: Nonces, tracked_for: Callable[[bytes], Tracked | None]) -> None:
        self._nonces = nonces
        self._tracked_for = tracked_for
        self._known: dict[str, _Nonce] = {}
        self._asked: dict[str, object] = {}

    def clear(self) -> None:
        """Know nothing."""
        self._known.clear()
        self._asked.clear()

    def end(self, state: str) -> None:
        """A tag has ended, or its nonce is about to change."""
        self._asked.pop(state, None)
        self._known.pop(state, None)

    def needs(self, region: str, stamps: Stamps) -> tuple[str, ...] | None:
        """What an entry with these tags depends on: their states, and the servers that tell of
        them. ``None`` where one of its nonces is not known, or another, by now.
        """
        needs: list[str] = []
        for tag, nonce in stamps:
            state = state_of(region, tag)
            known = self._known.get(state)
            if known is None or known.nonce != nonce or known.source != known.tracked.source:
                return None
            needs += [state, known.source]
        return tuple(dict.fromkeys(needs))

    async def current(
        self, region: str, stamps: Iterable[Stamps], deadline: float
    ) -> dict[str, int | None]:
        """The present nonces of tags: those that are known, and the others read from their nodes.
        Cost: nothing, or one round trip a server.
        """
        current: dict[str, int | None] = {}
        unknown: list[str] = []
        for tag in dict.fromkeys(tag for each in stamps for tag, _ in each):
            known = self._known.get(state_of(region, tag))
            if known is not None and known.source == known.tracked.source:
                current[tag] = known.nonce
            else:
                unknown.append(tag)
        if unknown:
            current |= await self._learn(region, unknown, deadline)
        return current

    async def _learn(
        self, region: str, tags: Sequence[str], deadline: float
    ) -> dict[str, int | None]:
        """Read nonces, over tracked connections where there are, and know those from now on."""
        found: dict[str, int | None] = {}
        plain: list[str] = []
        asked: list[tuple[str, Tracked, str, object, Future[Reply]]] = []
        for tag in tags:
            name = self._nonces.name(region, tag)
            tracked = self._tracked_for(name)
            if tracked is None or tracked.connection is None:
                plain.append(tag)
                continue
            token = self._asked[state_of(region, tag)] = object()
            future = tracked.connection.call(("GET", name), deadline)
            asked.append((tag, tracked, tracked.source, token, future))
        replies = await asyncio.gather(*[each[-1] for each in asked], return_exceptions=True)
        for (tag, tracked, source, token, _), reply in zip(asked, replies, strict=True):
            state = state_of(region, tag)
            clean = self._asked.get(state) is token
            if clean:
                del self._asked[state]
            if isinstance(reply, BackendUnavailable) or tracked.refuses(reply):
                plain.append(tag)
                continue
            if isinstance(reply, BaseException) and type(reply) is not ServerError:
                raise reply
            nonce = found[tag] = nonce_of(reply)
            if clean and nonce is not None and source == tracked.source:
                self._know(state, _Nonce(nonce, tracked, source))
        if plain:
            found |= await self._nonces.current(region, plain, deadline)
        return found

    def _know(self, state: str, known: _Nonce) -> None:
        self._known.pop(state, None)
        self._known[state] = known
        if len(self._known) > _MOST:
            del self._known[next(iter(self._known))]


def state_of(region: str, tag: str) -> str:
    """The name of a tag's state: a user's tag is its own, that of a region is hidden."""
    return tag or f"{HIDDEN}region:{region}"
