"""What a backend may offer to be maintained: one small contract for each task.

A backend that can be maintained has an attribute ``upkeep``, whose methods are those of the
contracts it fulfils. All steps are small, may be repeated, and do no harm when somebody else does
the same at the same time: they remove or move only what is still as it was judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec

__all__ = [
    "Advisable",
    "Balance",
    "Cleanable",
    "Cleaned",
    "Compactable",
    "Move",
    "Rebalanceable",
    "Reweighable",
    "Space",
]


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a clean-up. ``cursor`` is where the next one goes on, empty after the last;
    ``freed`` is bytes, where known; ``notes`` are sentences for a person: what can't be known.
    """

    cursor: str
    looked: int = 0
    removed: int = 0
    freed: int = 0
    notes: tuple[str, ...] = ()


@runtime_checkable
class Cleanable(Protocol):
    """Entries can be looked through."""

    async def count(self) -> int | None:
        """About how many there are to look at; ``None`` where that is not known."""
        ...

    async def clean(self, cursor: str, older_than: float, limit: int) -> Cleaned:
        """Look at about ``limit`` entries from ``cursor`` on, which is empty at first. Remove what
        is dead, as its region was cleared or a tag of it ended, and what expired or was not used
        for more than ``older_than`` seconds, as far as that is known. One or a few round trips.
        """
        ...


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a backend or storage that takes ``size`` bytes or pages or rows, of which ``dead``
    hold nothing. ``advice`` says what a person can do about it that we can't.
    """

    name: str
    size: int
    dead: int
    advice: str = ""

    @property
    def share(self) -> float:
        """The dead part of all."""
        return self.dead / self.size if self.size > 0 else 0.0


@runtime_checkable
class Compactable(Protocol):
    """Space that holds nothing can be measured, and perhaps given back."""

    async def space(self) -> list[Space]:
        """How much each part takes. One round trip a part."""
        ...

    async def compact(self, name: str, limit: int) -> tuple[int, str]:
        """Give back some of the dead space of a part, about ``limit`` pages of it: how many bytes
        it was, 0 if there is no more to give; and why it can't be done, if so.
        """
        ...


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the keys, such as a slot, that goes from one server to another; ``keys`` is how
    many it had when it was counted.
    """

    part: int
    source: str
    target: str
    keys: int = 0


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """How many keys each server has, and the moves that would even it out: none where no server is
    further from the mean than was allowed. ``least`` is how many keys have to move at least.
    ``weights`` are those of a ring by which they would be placed then.
    """

    loads: dict[str, int]
    moves: tuple[Move, ...] = ()
    least: int = 0
    weights: dict[str, float] = {}

    @property
    def keys(self) -> int:
        """How many keys would move."""
        return sum([move.keys for move in self.moves])


@runtime_checkable
class Rebalanceable(Protocol):
    """Keys can be moved between servers, while they are used."""

    async def balance(self, threshold: float) -> Balance:
        """How it is, and what would even it out. One round trip a server, or a few."""
        ...

    async def unfinished(self) -> list[Move]:
        """Moves that somebody began and did not end. One round trip a server."""
        ...

    async def move(self, move: Move, limit: int) -> tuple[int, bool]:
        """Go on with a move: about ``limit`` keys of it, and then its end. How many keys moved, and
        whether it has ended. May be repeated, also by others. A few round trips.
        """
        ...


@runtime_checkable
class Reweighable(Protocol):
    """Keys are placed by weights, which can be changed while they are used: then they move."""

    async def balance(self, threshold: float) -> Balance:
        """How it is, and what would even it out. A look at the names of all keys."""
        ...

    async def under_way(self) -> bool:
        """Whether somebody has begun to move keys, and has not ended it. One round trip."""
        ...

    async def begin(self, weights: Mapping[str, float]) -> None:
        """Let keys be placed by ``weights``, unless they move already. Raises where not all servers
        can be told; then nothing moves.
        """
        ...

    async def resume(self) -> None:
        """Take the move over from whoever was at it. To be called before the first step, and after
        one that failed.
        """
        ...

    async def step(self, limit: int) -> tuple[int, bool]:
        """Move about ``limit`` keys: how many it were, and whether that was the end."""
        ...


@runtime_checkable
class Advisable(Protocol):
    """Keys are placed by settings that a person can change."""

    async def advise(self, threshold: float) -> str:
        """What to change where a server has more than a share of the mean too many or too few
        keys; empty where none has. One round trip a server.
        """
        ...
