"""The claims that loads of this process hold in a cache file.

The file decides who holds a claim and whether a fill is stored. What is here answers one question
without asking it: whether something that this process knows of has ended a claim. Changes and
claims have their order in the file, by number; news of a change may come after a claim that was
given later than it, and does not end that.

A claim that the file may still have and nobody will fill is **owed**: upkeep gives it back, as
the file keeps it as long as this process lives.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from ...claims import Claim
from ...tags import TagStates
from ...types import Version
from .transaction import Token

__all__ = ["DiskClaims", "Held"]


class Held(msgspec.Struct, frozen=True):
    """A claim that the file gave us, and the tags of what will fill it."""

    region: str
    token: Token
    tags: tuple[str, ...]


class DiskClaims:
    """The claims of one process. Any thread may tell what happened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states = TagStates()
        self._claims: dict[tuple[str, str], Claim] = {}
        self._asked: dict[Claim, float] = {}
        self._held: dict[Claim, Held] = {}
        self.owed: dict[int, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def take(self, region: str, key: str, tags: tuple[str, ...]) -> Claim | None:
        """A claim to ask the file for; ``None`` while another load of this process has one."""
        known = self._claims.get((region, key))
        if known is not None:
            if known.live():
                return None
            self._end(region, known)
        claim = self._claims[region, key] = Claim(key, self._states.acquire(tags))
        self._asked[claim] = 0
        return claim

    def fence(self, region: str, key: str) -> Claim:
        """A fence to ask the file for, whoever has a claim."""
        known = self._claims.get((region, key))
        if known in self._held:
            self._lose(region, known)
        elif known is not None:
            self._end(region, known)
        claim = self._claims[region, key] = Claim(key, ())
        self._asked[claim] = 0
        return claim

    def hold(self, claim: Claim, region: str, token: Token) -> None:
        """The file gave us the claim."""
        changed = self._asked.pop(claim)
        tags = tuple(dict.fromkeys([state.name for state in claim.tags]))
        self._held[claim] = Held(region, token, tags)
        if changed > token.seq:
            self._lose(region, claim)

    def held(self, claim: Claim) -> Held | None:
        """What the file gave us; ``None`` for a claim that was given back."""
        return self._held.get(claim)

    def extend(self, claim: Claim, token: Token, tags: tuple[str, ...]) -> None:
        """A claim depends on more tags."""
        held = self._held.get(claim)
        if held is not None:
            claim.tags += self._states.acquire(tags)
            more = tuple(dict.fromkeys([*held.tags, *tags]))
            self._held[claim] = Held(held.region, token, more)

    def give(self, claim: Claim) -> Held | None:
        """Give a claim back, filled or not."""
        held = self._held.pop(claim, None)
        if held is not None:
            self._end(held.region, claim)
        return held

    def cancel(self, region: str, claims: Iterable[Claim]) -> None:
        """Claims that the file did not give us."""
        for claim in claims:
            del self._asked[claim]
            self._end(region, claim)

    def owe(self, region: str, numbers: Iterable[tuple[str, int]]) -> None:
        """Claims, by key and number, that the file may have and nobody will fill."""
        self.owed |= {number: (region, key) for key, number in numbers}

    def paid(self, numbers: Iterable[int]) -> None:
        """Owed claims were given back."""
        for number in numbers:
            self.owed.pop(number, None)

    @contextmanager
    def asking(self, region: str, asked: Mapping[Claim, int]) -> Iterator[None]:
        """A call that asks for claims by number: where it fails, upkeep gives them back."""
        try:
            yield
        except BaseException:
            self.cancel(region, asked)
            self.owe(region, [(claim.key, number) for claim, number in asked.items()])
            raise

    @contextmanager
    def giving_back(self, region: str, held: Sequence[tuple[str, Held]]) -> Iterator[None]:
        """A call that ends claims: where it fails, upkeep gives them back."""
        try:
            yield
        except BaseException:
            self.owe(region, [(key, found.token.number) for key, found in held])
            raise

    # -- what happened

    def drop(self, region: str, key: str, seq: Version) -> None:
        """Something happened to a key, as change ``seq``."""
        claim = self._claims.get((region, key))
        if claim is not None:
            self._changed(region, claim, seq)

    def end_tag(self, name: str) -> None:
        """A tag was invalidated."""
        self._states.invalidate(name)

    def clear(self, region: str, seq: float) -> None:
        """A region was cleared, as change ``seq``."""
        for found, key in list(self._claims):
            if found == region:
                self._changed(region, self._claims[region, key], seq)

    def drop_all(self) -> None:
        """Anything may have happened."""
        for region in {region for region, _ in self._claims}:
            self.clear(region, math.inf)

    def _changed(self, region: str, claim: Claim, seq: float) -> None:
        if claim in self._asked:  # the answer will tell which came first
            self._asked[claim] = max(self._asked[claim], seq)
            return
        held = self._held.get(claim)
        if held is None or seq > held.token.seq:
            self._lose(region, claim)

    def _lose(self, region: str, claim: Claim) -> None:
        held = self.give(claim)
        if held is not None:
            self.owe(region, [(claim.key, held.token.number)])

    def _end(self, region: str, claim: Claim) -> None:
        if not claim.dropped:
            claim.dropped = True
            self._states.release(claim.tags)
            if self._claims.get((region, claim.key)) is claim:
                del self._claims[region, claim.key]
