"""Shadow caches: what the same requests would have hit under other plans.

Each shadow replays a sample of the keys (chosen by their hash, so that all requests of a key are in
it or none) through a cache that is smaller by the same factor, and holds no values. As all of them
see the same requests, a few hundred entries are enough to tell which plan hits more often. Source:
C. Waldspurger, N. Park, A. Garthwaite and I. Ahmad, "Efficient MRC Construction with SHARDS", FAST
2015, and, by the same with T. Saemundsson, "Cache Modeling and Optimization using Miniature
Simulations", USENIX ATC 2017.
"""

from __future__ import annotations

from typing import Final

from .history import History
from .segmented import admits

__all__ = ["OUT", "Plan", "Shadows"]

_WINDOW: Final = 0
_PROBATION: Final = 1
_PROTECTED: Final = 2
OUT: Final = 3
"""The home of a key that a shadow does not hold."""
_PROTECTED_SHARE: Final = 0.8
_MOST: Final = 15
_PERIOD: Final = 10
_GHOSTS: Final = 8
_REMEMBERED: Final = 8
_OFTEN: Final = 4
_OF_WINDOW: Final = 4
_OF_ALL: Final = 16
_LEAD: Final = 0.005
_AT_LEAST: Final = 2.0


class Plan:
    """A share of the window and a rule of admission (see :mod:`.segmented`)."""

    __slots__ = ("name", "rule", "share")

    def __init__(self, name: str, share: float, rule: int) -> None:
        self.name = name
        self.share = share
        self.rule = rule


class _Key:
    """A sampled key that ``held`` shadows hold: how often it was used, and where it is in each."""

    __slots__ = ("count", "hashed", "held", "places")

    def __init__(self, hashed: int, count: int) -> None:
        self.hashed = hashed
        self.count = count
        self.held = 0
        self.places: list[_Place] = []


class _Place:
    """A key in one shadow: a link of a list."""

    __slots__ = ("home", "key", "next", "prev")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.home = OUT
        self.prev: _Place = self
        self.next: _Place = self


class _Shadow:
    """One plan on the sampled keys. ``hits`` is aged by who owns it; ``left`` is the key that the
    last request put out.
    """

    __slots__ = ("_brief", "_capacity", "_counts", "_heads", "_patience", "_protected", "_rule",
                 "_window", "hits", "left")  # fmt: skip

    def __init__(self, plan: Plan, capacity: int) -> None:
        self.hits = 0.0
        self.left: _Key | None = None
        self._capacity = capacity
        self._rule = plan.rule
        self._window = min(capacity, max(1, round(capacity * plan.share)))
        self._patience = max(1, capacity // _OF_ALL)
        self._brief = min(self._patience, max(1, self._window // _OF_WINDOW))
        self._protected = int((capacity - self._window) * _PROTECTED_SHARE)
        self._heads = [_Place(_Key(0, 0)) for _ in range(3)]
        self._counts = [0, 0, 0]

    def request(self, place: _Place) -> int:
        """Its key was asked for; how many others may now come before its place is much another,
        0 where it missed.
        """
        home = place.home
        if home in (_WINDOW, _PROTECTED):
            self.hits += 1.0
            head, before, after = self._heads[home], place.prev, place.next
            if after is not head:
                before.next, after.prev = after, before
                last = head.prev
                place.prev, place.next = last, head
                last.next = head.prev = place
            return self._patience if home == _PROTECTED else self._brief
        if home == _PROBATION:
            self.hits += 1.0
            self._move(place, _PROTECTED)
            if self._counts[_PROTECTED] > self._protected:
                self._move(self._heads[_PROTECTED].next, _PROBATION)
            return self._patience
        counts = self._counts
        if counts[_WINDOW] + counts[_PROBATION] + counts[_PROTECTED] >= self._capacity:
            self._evict()
        self._move(place, _WINDOW)
        while counts[_WINDOW] > self._window:
            self._move(self._heads[_WINDOW].next, _PROBATION)
        return 0

    def _evict(self) -> None:
        counts, heads = self._counts, self._heads
        candidate = heads[_WINDOW].next
        if counts[_PROBATION] + counts[_PROTECTED] == 0:
            self._move(candidate, OUT)
            return
        victim = heads[_PROBATION if counts[_PROBATION] else _PROTECTED].next
        if counts[_WINDOW] < self._window:
            self._move(victim, OUT)
        elif admits(self._rule, candidate.key.count, victim.key.count):
            self._move(victim, OUT)
            self._move(candidate, _PROBATION)
        else:
            self._move(candidate, OUT)

    def _move(self, place: _Place, home: int) -> None:
        """Take ``place`` out of its list and put it at the end of another, or of none."""
        if place.home != OUT:
            place.prev.next, place.next.prev = place.next, place.prev
            self._counts[place.home] -= 1
        else:
            place.key.held += 1
        place.home = home
        if home == OUT:
            place.prev = place.next = place
            place.key.held -= 1
            self.left = place.key
            return
        head = self._heads[home]
        place.prev, place.next = head.prev, head
        head.prev.next = place
        head.prev = place
        self._counts[home] += 1


class Shadows:
    """One shadow for each plan, on the same sample; ``best`` is the plan that hits most.

    ``capacity`` is that of each shadow. ``turn`` is told how far a challenger must lead: a share
    of the requests that are remembered, which are eight times the capacity, the older the less.

    ``arrivals`` counts the requests that some shadow missed. Until it is at ``quiet_until``, a hit
    of the key asked for last may go untold: all shadows hold it, so that it would be a vote for
    each; it is known to be used often; and its place in their orders is nearly the same without.
    """

    __slots__ = ("_capacity", "_fading", "_history", "_keys", "_plans", "_requests", "_seen",
                 "_shadows", "_until_aged", "_until_turn", "arrivals", "best",
                 "quiet_until")  # fmt: skip

    def __init__(self, plans: list[Plan], capacity: int, best: int, arrivals: int = 0) -> None:
        self.best = best
        self._plans = plans
        self._capacity = capacity
        self._shadows = [_Shadow(plan, capacity) for plan in plans]
        self._keys: dict[int, _Key] = {}
        self._history = History(_GHOSTS * capacity)
        self._requests = self._turn_every()
        self._fading = 0.5 ** (self._requests / (_REMEMBERED * capacity))
        self._seen = 0.0
        self._until_turn = self._requests
        self._until_aged = _PERIOD * capacity
        self.arrivals = arrivals
        self.quiet_until = arrivals

    def _turn_every(self) -> int:
        return max(16, self._capacity // 4)

    def request(self, hashed: int) -> bool:
        """A sampled key was asked for; whether :attr:`best` is another now."""
        key = self._keys.get(hashed)
        if key is None:
            key = self._keys[hashed] = _Key(hashed, self._history.get(hashed))
            for _ in self._shadows:
                key.places.append(_Place(key))
        if key.count < _MOST:
            key.count += 1
        places, patience = key.places, self._capacity
        for index in range(len(places)):
            shadow = self._shadows[index]
            patience = min(patience, shadow.request(places[index]))
            left = shadow.left
            if left is not None:
                shadow.left = None
                if not left.held:
                    self._forget(left)
        if not patience:
            self.arrivals += 1
        self.quiet_until = self.arrivals + patience if key.count >= _OFTEN else self.arrivals
        self._until_aged -= 1
        if self._until_aged <= 0:
            self._grow_older()
        self._until_turn -= 1
        return self._until_turn <= 0 and self._turn()

    def _turn(self) -> bool:
        """Let the votes of the last requests count, and those of earlier ones fade."""
        self._until_turn = self._requests
        self._seen += self._requests
        best = self.best
        for index in range(len(self._shadows)):
            if self._shadows[index].hits > self._shadows[best].hits:
                best = index
        lead = self._shadows[best].hits - self._shadows[self.best].hits
        changed = best != self.best and lead > _LEAD * self._seen + _AT_LEAST
        if changed:
            self.best = best
        self._seen *= self._fading
        for shadow in self._shadows:
            shadow.hits *= self._fading
        return changed

    def _forget(self, key: _Key) -> None:
        """No shadow holds it any more: only its count is remembered."""
        del self._keys[key.hashed]
        key.places = []  # each points back to it
        self._history.put(key.hashed, key.count)

    def _grow_older(self) -> None:
        """Halve the counts."""
        self._until_aged = _PERIOD * self._capacity
        self._history.age += 1
        for key in self._keys.values():
            key.count >>= 1

    def keys(self) -> int:
        """How many keys are in some shadow."""
        return len(self._keys)

    def __len__(self) -> int:
        return len(self._plans)
