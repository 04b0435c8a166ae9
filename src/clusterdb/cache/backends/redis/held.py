"""The claims that loads of this process hold on servers.

A server decides who holds a claim and whether a fill is stored. What is here answers one question
without asking it: whether a claim may have ended, by something that this process did, or by what a
read of its key brought since. Who joins a load has just read its key, and found it missing: if
another process has removed the claim by then, that read shows it, and the load is not joined.

A claim that a server may still have and nobody will fill is **owed**: it is given back soon, so
that others need not wait until it lapses.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ...claims import Claim
from ...tags import TagStates
from .stored import claim_token

__all__ = ["Held", "HeldClaims"]


class Held(msgspec.Struct):
    """A claim that a server gave us: its token, the nonces of its tags, and when it is to be
    renewed (a moment of the clock; ``lease`` is in seconds). ``since``: we know of it.
    """

    region: str
    token: bytes
    nonces: dict[str, int]
    lease: float
    since: float
    renew_at: float


class HeldClaims:
    """The claims of one process, in its event loop's thread."""

    def __init__(self) -> None:
        self._states = TagStates()
        self._claims: dict[tuple[str, str], Claim] = {}
        self._held: dict[Claim, Held] = {}
        self.owed: dict[bytes, tuple[str, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._held or self.owed)

    def take(self, region: str, key: str, tags: tuple[str, ...]) -> tuple[Claim, bytes] | None:
        """A claim to ask the server for, and the token of a dead one of ours that it may replace;
        ``None`` while another load of this process has one.
        """
        known, replaces = self._claims.get((region, key)), b""
        if known is not None:
            if known.live() or known.fence:
                return None
            held = self.give(region, known)
            replaces = b"" if held is None else held.token
        claim = self._claims[region, key] = Claim(key, self._states.acquire(tags))
        return claim, replaces

    def fence(self, region: str, key: str) -> Claim:
        """A fence to ask the server for, whoever has a claim."""
        self.drop(region, key)
        claim = self._claims[region, key] = Claim(key, ())
        claim.fence = True
        return claim

    def hold(self, claim: Claim, held: Held) -> None:
        """The server gave us the claim. If it ended while it was asked for, it is owed."""
        if claim.dropped:
            self.owed[held.token] = held.region, claim.key
        else:
            self._held[claim] = held

    def held(self, claim: Claim) -> Held | None:
        """What the server gave us; ``None`` for a claim that was given back."""
        return self._held.get(claim)

    def on(self, region: str, keys: Sequence[str]) -> dict[Claim, Held]:
        """The claims that we hold on ``keys``."""
        claims = [self._claims.get((region, key)) for key in keys]
        return {claim: self._held[claim] for claim in claims if claim in self._held}

    def extend(self, claim: Claim, nonces: dict[str, int]) -> None:
        """A claim depends on more tags, whose present nonces are these."""
        held = self._held.get(claim)
        if held is not None:
            claim.tags += self._states.acquire(tuple(nonces))
            held.nonces = held.nonces | nonces | held.nonces  # in the order they came

    def give(self, region: str, claim: Claim) -> Held | None:
        """End a claim: filled, given back, or not given to us; what the server gave, if it did."""
        self._end(region, claim)
        return self._held.pop(claim, None)

    def due(self, now: float) -> list[tuple[Claim, Held]]:
        """The claims that are to be renewed by now."""
        return [(claim, held) for claim, held in self._held.items() if held.renew_at <= now]

    def next_renewal(self) -> float | None:
        """When the next claim is to be renewed, if there is one."""
        return min([held.renew_at for held in self._held.values()], default=None)

    # -- what happened

    def witness(self, region: str, key: str, value: object, sent_at: float) -> None:
        """A read of ``key`` that was sent at ``sent_at`` brought ``value``: where that is not the
        claim that we held by then, the claim has ended.
        """
        claim = self._claims.get((region, key))
        held = None if claim is None else self._held.get(claim)
        if claim is None or held is None or held.since > sent_at:
            return
        if type(value) is not bytes or claim_token(value) != held.token:
            self.give(region, claim)

    def drop(self, region: str, key: str, *, unless_fence: bool = False) -> None:
        """Something happened to a key, and removed the claim where it lives."""
        claim = self._claims.get((region, key))
        if claim is not None and not (unless_fence and claim.fence):
            self.give(region, claim)

    def doubt(self, region: str, key: str, *, unless_fence: bool = False) -> None:
        """Something may have happened to a key; if not, the claim is owed."""
        claim = self._claims.get((region, key))
        if claim is not None and not (unless_fence and claim.fence):
            held = self.give(region, claim)
            if held is not None:
                self.owed[held.token] = region, key

    def end_tags(self, tags: Sequence[str]) -> None:
        """Tags were invalidated. Claims that depend on them can still be given back."""
        for tag in tags:
            self._states.invalidate(tag)

    def clear(self, region: str, *, owed: bool = False) -> None:
        """A region was cleared; its claims are ``owed`` where that did not remove them."""
        for found, key in list(self._claims):
            if found == region:
                if owed:
                    self.doubt(region, key)
                else:
                    self.drop(region, key)

    def forget(self) -> None:
        """In the child of a fork: the claims are the parent's."""
        self._states = TagStates()
        self._claims.clear()
        self._held.clear()
        self.owed.clear()

    def drop_all(self) -> None:
        """Anything may have happened."""
        for region, key in list(self._claims):
            self.drop(region, key)

    def _end(self, region: str, claim: Claim) -> None:
        if not claim.dropped:
            claim.dropped = True
            self._states.release(claim.tags)
            if self._claims.get((region, claim.key)) is claim:
                del self._claims[region, claim.key]
