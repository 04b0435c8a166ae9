"""The claims that loads of this process hold in a cache file.

The file decides who holds a claim and whether a fill is stored. What is here answers one question
without asking it: whether something that this process knows of has ended a claim.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...claims import Claim, Claims
from ...tags import TagStates
from .transaction import Token

__all__ = ["DiskClaims", "Held"]


class Held(msgspec.Struct, frozen=True):
    """A claim that the file gave us, and the tags of what will fill it."""

    region: str
    token: Token
    tags: tuple[str, ...]


class DiskClaims:
    """The claims of one process, in the event loop's thread."""

    def __init__(self) -> None:
        self._states = TagStates()
        self._regions: dict[str, Claims] = {}
        self._held: dict[Claim, Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def take(self, region: str, key: str, tags: tuple[str, ...]) -> Claim | None:
        """A claim to ask the file for; ``None`` while another load of this process has one."""
        claims = self._regions.get(region)
        if claims is None:
            claims = self._regions[region] = Claims(self._states)
        return claims.take(key, tags)

    def hold(self, claim: Claim, region: str, token: Token) -> None:
        """The file gave us the claim."""
        tags = tuple(dict.fromkeys([state.name for state in claim.tags]))
        self._held[claim] = Held(region, token, tags)

    def held(self, claim: Claim) -> Held | None:
        """What the file gave us; ``None`` for a claim that was given back."""
        return self._held.get(claim)

    def extend(self, claim: Claim, token: Token, tags: tuple[str, ...]) -> None:
        """A claim depends on more tags."""
        held = self._held.get(claim)
        if held is not None:
            self._regions[held.region].extend(claim, tags)
            more = tuple(dict.fromkeys([*held.tags, *tags]))
            self._held[claim] = Held(held.region, token, more)

    def give(self, claim: Claim) -> Held | None:
        """Give a claim back, filled or not."""
        held = self._held.pop(claim, None)
        if held is not None:
            self._regions[held.region].release(claim)
        return held

    def cancel(self, region: str, claims: Iterable[Claim]) -> None:
        """Claims that the file did not give us."""
        for claim in claims:
            self._regions[region].release(claim)

    # -- what happened

    def drop(self, region: str, key: str) -> None:
        """Something happened to a key."""
        claims = self._regions.get(region)
        if claims is not None:
            claims.drop(key)

    def end_tag(self, name: str) -> None:
        """A tag was invalidated."""
        self._states.invalidate(name)

    def clear(self, region: str) -> None:
        """A region was cleared."""
        claims = self._regions.get(region)
        if claims is not None:
            claims.clear()

    def drop_all(self) -> None:
        """Anything may have happened."""
        for claims in self._regions.values():
            claims.clear()
