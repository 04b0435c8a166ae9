"""The nonces of tags: what an entry carries, and what decides whether it lives.

A tag's nonce is 8 random bytes under a key of its own. An entry is dead once one of the nonces in
its envelope is not the current one; a missing nonce is a changed one. Source: coherence by
version stamps instead of lists of members, so that ending a tag is one write.

All entries of a region with ``instant_clear`` have one tag more, before all others: `REGION_TAG`,
the empty name, which is no user's. Its nonce is the region's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from ...errors import CacheError, ServerError
from ...transport import Command
from .link import Link, explained
from .names import Names

__all__ = ["REGION_TAG", "Nonces", "Stamps", "nonce_of"]

REGION_TAG: Final = ""

Stamps: TypeAlias = Sequence[tuple[str, int]]
"""Tags, each with a nonce."""

_BYTES: Final = 8


class Nonces:
    """Reads, makes and changes nonces."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names

    async def current(
        self, region: str, tags: Iterable[str], deadline: float | None = None
    ) -> dict[str, int | None]:
        """The nonces of ``tags`` for entries of a region; ``None`` for one without. Cost: one round
        trip a server.
        """
        wanted = list(dict.fromkeys(tags))
        if not wanted:
            return {}
        keys = [self.name(region, tag) for tag in wanted]
        commands: list[Command] = [("GET", key) for key in keys]
        replies = await self._link.send(commands, keys, deadline=deadline)
        found: dict[str, int | None] = {}
        for tag, reply in zip(wanted, replies, strict=True):
            if isinstance(reply, CacheError) and not _of_another_type(reply):
                raise explained(reply)
            found[tag] = nonce_of(reply)
        return found

    async def snapshot(
        self, region: str, tags: Iterable[str], deadline: float | None = None
    ) -> dict[str, int]:
        """The nonces of ``tags``, made where they are missing. Cost: one round trip a server, and
        one more for tags that are new.
        """
        found = await self.current(region, tags, deadline)
        missing = [tag for tag, nonce in found.items() if nonce is None]
        if missing:
            made = [os.urandom(_BYTES) for _ in missing]
            keys = [self.name(region, tag) for tag in missing]
            commands: list[Command] = [
                ("SET", key, nonce, "NX", "GET") for key, nonce in zip(keys, made, strict=True)
            ]
            replies = await self._link.send(commands, keys, write=True, deadline=deadline)
            for tag, nonce, reply in zip(missing, made, replies, strict=True):
                if isinstance(reply, CacheError):
                    raise explained(reply)
                winner = nonce_of(nonce if reply is None else reply)
                found[tag] = 0 if winner is None else winner
        return {tag: nonce for tag, nonce in found.items() if nonce is not None}

    async def alive(
        self, region: str, stamps: Iterable[Stamps], deadline: float | None = None
    ) -> list[bool]:
        """Whether every nonce of each is the current one. Cost: one round trip a server."""
        wanted = list(stamps)
        tags = [tag for each in wanted for tag, _ in each]
        current = await self.current(region, tags, deadline)
        return [all(current[tag] == nonce for tag, nonce in each) for each in wanted]

    async def change(self, tags: Iterable[str]) -> None:
        """Give ``tags`` new nonces. Cost: one round trip a server; a server without memory for it
        loses the nonce instead, which is as good.
        """
        keys = [self._names.tag(tag) for tag in dict.fromkeys(tags)]
        if keys:
            await self._change(keys)

    async def end_region(self, region: str) -> None:
        """Give a region with ``instant_clear`` a new nonce. Cost: one round trip."""
        await self._change([self._names.region(region)])

    def name(self, region: str, tag: str) -> bytes:
        """The name under which the nonce of a tag of a region's entry is kept."""
        return self._names.tag(tag) if tag else self._names.region(region)

    async def _change(self, keys: Sequence[bytes]) -> None:
        commands: list[Command] = [("SET", key, os.urandom(_BYTES)) for key in keys]
        replies = await self._link.send(commands, keys, write=True)
        full = [at for at, reply in enumerate(replies) if _is_full(reply)]
        if full:
            removals: list[Command] = [("UNLINK", keys[at]) for at in full]
            removed = await self._link.send(removals, [keys[at] for at in full], write=True)
            for at, reply in zip(full, removed, strict=True):
                replies[at] = reply
        for reply in replies:
            if isinstance(reply, CacheError):
                raise explained(reply)


def nonce_of(reply: object) -> int | None:
    """The nonce that a server gave, if it is one."""
    if isinstance(reply, bytes) and len(reply) == _BYTES:
        return int.from_bytes(reply, "big")
    return None


def _of_another_type(reply: CacheError) -> bool:
    return isinstance(reply, ServerError) and reply.code == "WRONGTYPE"


def _is_full(reply: object) -> bool:
    return isinstance(reply, ServerError) and reply.code == "OOM"
