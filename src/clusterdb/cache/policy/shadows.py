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

from .segmented import admits

__all__ = ["Plan", "Shadows"]

_WINDOW: Final = 0
_PROBATION: Final = 1
_PROTECTED: Final = 2
_OUT: Final = 3
_PROTECTED_SHARE: Final = 0.8
_MOST: Final = 15
_PERIOD: Final = 10
_GHOSTS: Final = 8
_REMEMBERED: Final = 8
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
    """A sampled key: how often it was used, and where it is in each shadow."""

    __slots__ = ("count", "places")

    def __init__(self) -> None:
        self.count = 0
        self.places: list[_Place] = []


class _Place:
    """A key in one shadow: a link of a list."""

    __slots__ = ("home", "key", "next", "prev")

    def __init__(self, key: _Key) -> None:
        self.key = key
        self.home = _OUT
        self.prev: _Place = self
        self.next: _Place = self


class _Shadow:
    """One plan on the sampled keys. ``hits`` is aged by who owns it."""

    __slots__ = ("_capacity", "_counts", "_heads", "_protected", "_rule", "_window", "hits")

    def __init__(self, plan: Plan, capacity: int) -> None:
        self.hits = 0.0
        self._capacity = capacity
        self._rule = plan.rule
        self._window = min(capacity, max(1, round(capacity * plan.share)))
        self._protected = int((capacity - self._window) * _PROTECTED_SHARE)
        self._heads = [_Place(_Key()) for _ in range(3)]
        self._counts = [0, 0, 0]

    def request(self, place: _Place) -> None:
        """Its key was asked for."""
        home = place.home
        if home in (_WINDOW, _PROTECTED):
            self.hits += 1.0
            head, before, after = self._heads[home], place.prev, place.next
            if after is not head:
                before.next, after.prev = after, before
                last = head.prev
                place.prev, place.next = last, head
                last.next = head.prev = place
        elif home == _PROBATION:
            self.hits += 1.0
            self._move(place, _PROTECTED)
            if self._counts[_PROTECTED] > self._protected:
                self._move(self._heads[_PROTECTED].next, _PROBATION)
        else:
            counts = self._counts
            if counts[_WINDOW] + counts[_PROBATION] + counts[_PROTECTED] >= self._capacity:
                self._evict()
            self._move(place, _WINDOW)
            while counts[_WINDOW] > self._window:
                self._move(self._heads[_WINDOW].next, _PROBATION)

    def _evict(self) -> None:
        counts, heads = self._counts, self._heads
        candidate = heads[_WINDOW].next
        if counts[_PROBATION] + counts[_PROTECTED] == 0:
            self._move(candidate, _OUT)
            return
        victim = heads[_PROBATION if counts[_PROBATION] else _PROTECTED].next
        if counts[_WINDOW] < self._window:
            self._move(victim, _OUT)
        elif admits(self._rule, candidate.key.count, victim.key.count):
            self._move(victim, _OUT)
            self._move(candidate, _PROBATION)
        else:
            self._move(candidate, _OUT)

    def _move(self, place: _Place, home: int) -> None:
        """Take ``place`` out of its list and put it at the end of another, or of none."""
        if place.home != _OUT:
            place.prev.next, place.next.prev = place.next, place.prev
            self._counts[place.home] -= 1
        place.home = home
        if home == _OUT:
            place.prev = place.next = place
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
    """

    __slots__ = ("_capacity", "_fading", "_keys", "_plans", "_requests", "_seen", "_shadows",
                 "_until_aged", "_until_turn", "best")  # fmt: skip

    def __init__(self, plans: list[Plan], capacity: int, best: int) -> None:
        self.best = best
        self._plans = plans
        self._capacity = capacity
        self._shadows = [_Shadow(plan, capacity) for plan in plans]
        self._keys: dict[int, _Key] = {}
        self._requests = self._turn_every()
        self._fading = 0.5 ** (self._requests / (_REMEMBERED * capacity))
        self._seen = 0.0
        self._until_turn = self._requests
        self._until_aged = _PERIOD * capacity

    def _turn_every(self) -> int:
        return max(16, self._capacity // 4)

    def request(self, hashed: int) -> bool:
        """A sampled key was asked for; whether :attr:`best` is another now."""
        key = self._keys.get(hashed)
        if key is None:
            key = self._keys[hashed] = _Key()
            for _ in self._shadows:
                key.places.append(_Place(key))
        if key.count < _MOST:
            key.count += 1
        places = key.places
        for index in range(len(places)):
            self._shadows[index].request(places[index])
        self._until_aged -= 1
        if self._until_aged <= 0 or len(self._keys) > _GHOSTS * self._capacity:
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

    def _grow_older(self) -> None:
        """Halve the counts, and forget keys that are in no shadow and were not used since."""
        self._until_aged = _PERIOD * self._capacity
        forgotten = []
        for hashed, key in self._keys.items():
            key.count >>= 1
            if not key.count and all(place.home == _OUT for place in key.places):
                forgotten.append(hashed)
        for hashed in forgotten:
            del self._keys[hashed]

    def keys(self) -> int:
        """How many keys are remembered."""
        return len(self._keys)

    def __len__(self) -> int:
        return len(self._plans)
