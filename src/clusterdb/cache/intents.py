"""The contract of a place for what is to be written behind: intents, durable before their rows are.

An intent is accepted once and for all: whoever was told so finds its row in storage, whatever dies
meanwhile, as far as the place's own durability goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

__all__ = ["Durability", "Intent", "Intents", "Mine", "PutAside"]

Durability: TypeAlias = Literal["journal", "replicated", "memory"]
"""How much an accepted intent outlives: the process and the machine's power; the machine, as other
machines have it; or nothing."""


Mine: TypeAlias = Callable[[str], bool]
"""Whether a region is written behind by who asks: a place may have the intents of several."""


class Intent(msgspec.Struct, frozen=True):
    """Write ``value``, an :class:`Encoded`, or delete the row where it is ``MISSING``. The highest
    ``version`` of a key counts. ``deadline`` is the expiry in seconds since the Unix epoch.
    """

    region: str
    key: str
    value: Any
    version: int = 0
    deadline: float | None = None
    tags: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """Region and key."""
        return self.region, self.key


class PutAside(msgspec.Struct, frozen=True):
    """An intent whose row the database refused, with its own code and reason; ``time`` is seconds
    since the Unix epoch.
    """

    region: str
    key: str
    version: int
    code: str
    reason: str
    time: float


class Intents(Protocol):
    """A place for intents. Raises :class:`CacheError` where it can't be written."""

    async def open(self, mine: Mine) -> list[Intent]:
        """Begin; what was accepted earlier for regions that are ``mine`` and has no row yet, as far
        as nobody else sees to it.
        """
        ...

    async def adopt(self, mine: Mine) -> list[Intent]:
        """What processes that have died since left behind, of regions that are ``mine``. That of
        others stays for them.
        """
        ...

    async def append(self, intents: Sequence[Intent]) -> list[Intent]:
        """Accept intents: when this returns they are durable. They come back with their versions,
        where the place draws those. Calls that come together are made durable together.
        """
        ...

    async def flushed(self, intents: Sequence[Intent]) -> None:
        """Their rows are committed: forget them, and what is older."""
        ...

    async def put_aside(self, intent: Intent, refused: PutAside) -> None:
        """The database refuses it: keep it where a person finds it, and try it no more."""
        ...

    async def find(self, region: str, keys: Sequence[str]) -> list[Intent]:
        """What other processes have accepted for ``keys`` and not flushed, where that is known."""
        ...

    async def aside(self) -> list[PutAside]:
        """What was put aside."""
        ...

    async def aclose(self) -> None:
        """End. What is not flushed stays for the next process, where the place outlives this one.
        Idempotent.
        """
        ...

    def forked(self) -> None:
        """In the child of a fork: let go of what is the parent's, without a word to anybody."""
        ...
