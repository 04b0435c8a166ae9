"""Which server of a ring of single copies has which key, now and while keys move. Pure.

A *placement* is what the servers themselves keep of it, the same text on each: the weights by
which keys are placed, and while keys move those of before. Its epoch grows with each change, so
that who meets two takes the later one. Without any, the weights of the configuration count, and
the epoch is 0.

A change has stages. In ``announced`` all keys are still where the weights of before put them; a
server that had forgotten the change is ``held``, without answers about keys that would move, as it
may have been further. In ``moving`` a key that gets another server is at the old one as long as
that has it, and then at the new one; ``settled`` means that only the new weights count. The text
begins with the version (epoch and name), the stage and the token of who moves, which is what a
server's scripts compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from .ring import HashRing

__all__ = ["NOBODY", "Placed", "Placement", "Seat", "Stage"]

Stage: TypeAlias = Literal["settled", "announced", "held", "moving"]

NOBODY: Final = "-"
"""The token where nobody moves anything."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """``weights`` by address. While keys move, ``before`` are the weights that they come from."""

    epoch: int
    weights: dict[str, float]
    virtual_nodes: int
    change: str = NOBODY
    stage: Stage = "settled"
    before: dict[str, float] | None = None
    token: str = NOBODY

    @property
    def version(self) -> str:
        """What tells it from all others, whatever its stage."""
        return f"{self.epoch}.{self.change}"

    def text(self) -> bytes:
        """As servers keep it."""
        head = f"{self.version} {self.stage} {self.token} "
        return head.encode() + msgspec.json.encode(self)

    @classmethod
    def read(cls, text: object) -> Placement | None:
        """What a server keeps; ``None`` for nothing, and for what is no placement."""
        if not isinstance(text, bytes):
            return None
        try:
            return msgspec.json.decode(text.split(b" ", 3)[-1], type=cls)
        except msgspec.DecodeError:
            return None

    @property
    def moves(self) -> bool:
        """Whether keys move, or are about to."""
        return self.before is not None


class Seat(NamedTuple):
    """The server that is asked first for a key, and the one it moves to, if it moves."""

    first: str
    then: str | None


class Placed:
    """The rings of a placement. Cost: a hash for each virtual node, once; one for each key."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.ring = _ring(placement.weights, placement.virtual_nodes)
        self.before: HashRing | None = None
        if placement.before is not None:
            self.before = _ring(placement.before, placement.virtual_nodes)

    def seat(self, key: bytes) -> Seat:
        """Where a key is."""
        [owner] = self.ring.owners(key)
        if self.before is None:
            return Seat(owner, None)
        [old] = self.before.owners(key)
        return Seat(old, None if old == owner else owner)


def _ring(weights: Mapping[str, float], virtual_nodes: int) -> HashRing:
    return HashRing(weights, virtual_nodes=virtual_nodes)
