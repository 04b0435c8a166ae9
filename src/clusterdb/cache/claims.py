"""The right to fill a key, taken before its value is loaded.

A claim lives until anything happens to its key (set, delete, invalidate, clear) or to one of its
tags. Only a live claim can be filled, so a value that was read from its origin before an
invalidation can never be stored after it; and since a key has at most one live claim, it has at
most one loader. To every other operation a claim is absence.
"""

from __future__ import annotations

from .entries import TagState
from .tags import TagStates

__all__ = ["Claim", "Claims"]


class Claim:
    """One taken claim."""

    __slots__ = ("dropped", "fence", "key", "tags", "version")

    def __init__(self, key: str, tags: tuple[TagState, ...]) -> None:
        self.key = key
        self.tags = tags
        self.dropped = self.fence = False
        self.version = 0  # of what is filled, where it counts when the load began

    def live(self) -> bool:
        """Whether a fill would be accepted, as far as this process knows."""
        if self.dropped:
            return False
        for state in self.tags:
            if not state.live:
                return False
        return True


class Claims:
    """The claims of one table, at most one a key. The caller holds the table's lock."""

    def __init__(self, tags: TagStates) -> None:
        self._tags = tags
        self._claims: dict[str, Claim] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def keys(self) -> list[str]:
        """The keys that are claimed."""
        return list(self._claims)

    def take(self, key: str, tags: tuple[str, ...]) -> Claim | None:
        """Claim ``key``; ``None`` while another holds a live claim on it."""
        held = self._claims.get(key)
        if held is not None and held.live():
            return None
        self.drop(key)
        claim = self._claims[key] = Claim(key, self._tags.acquire(tags))
        return claim

    def held(self, key: str) -> bool:
        """Whether a live claim is on ``key``."""
        held = self._claims.get(key)
        return held is not None and held.live()

    def fence(self, key: str) -> Claim:
        """Claim ``key``, whoever holds it; an invalidation leaves this claim alone."""
        self.drop(key)
        claim = self._claims[key] = Claim(key, ())
        claim.fence = True
        return claim

    def holds(self, claim: Claim) -> bool:
        """Whether ``claim`` may still be filled."""
        return claim.live() and self._claims.get(claim.key) is claim

    def extend(self, claim: Claim, tags: tuple[str, ...]) -> None:
        """Let ``claim`` depend on the present states of more tags."""
        if not claim.dropped:
            claim.tags += self._tags.acquire(tags)

    def drop(self, key: str, *, unless_fence: bool = False) -> None:
        """End the claim on ``key``, if there is one."""
        claim = self._claims.get(key)
        if claim is not None and not (unless_fence and claim.fence):
            del self._claims[key]
            claim.dropped = True
            self._tags.release(claim.tags)

    def release(self, claim: Claim) -> None:
        """Give ``claim`` back, filled or not."""
        if self._claims.get(claim.key) is claim:
            self.drop(claim.key)

    def clear(self) -> None:
        """End every claim."""
        for key in list(self._claims):
            self.drop(key)
