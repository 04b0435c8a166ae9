"""A plain model of the cache: dictionaries, deadlines and naive policies.

It knows what is *resident* as well as what is alive: what expired, or whose tag ended, keeps its
place until it is read, overwritten, swept or makes room, and counts against limits until then.
"""

import math
from collections import Counter
from dataclasses import dataclass, field

from tests.stateful.naive import NAIVE, NaivePolicy


@dataclass
class Kept:
    """One resident entry; ``tags`` are names with the generation they were written in."""

    value: object
    deadline: float
    tags: dict[str, int]
    weight: int
    version: int = 0


@dataclass
class ModelRegion:
    name: str
    policy: str = "lru"
    max_items: int | None = None
    max_weight: int | None = None
    grace: float = 0.0
    ttl: float | None = None
    entries: dict[str, Kept] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.order: NaivePolicy = NAIVE[self.policy]()

    def use_policy(self, policy: str) -> None:
        """Go on with another policy, which is given the entries in the old one's order."""
        if policy == self.policy:
            return
        order, self.policy = self.order.ordered(), policy
        self.order = NAIVE[policy]()
        for key in order:
            self.order.insert(key)

    @property
    def weight(self) -> int:
        return sum([kept.weight for kept in self.entries.values()])


class TooLarge(Exception):
    """The model refuses an entry."""


class Model:
    """What the cache should hold, and what it should have counted."""

    def __init__(self, regions: list[ModelRegion], now: float) -> None:
        self.regions = {region.name: region for region in regions}
        self.generations: Counter[str] = Counter()
        self.now = now

    # -- what is there

    def valid(self, kept: Kept) -> bool:
        return all(self.generations[tag] == born for tag, born in kept.tags.items())

    def alive(self, region: ModelRegion, key: str) -> Kept | None:
        kept = region.entries.get(key)
        if kept is None or kept.deadline <= self.now or not self.valid(kept):
            return None
        return kept

    def alive_keys(self, region: ModelRegion) -> list[str]:
        return sorted([key for key in region.entries if self.alive(region, key)])

    def stale(self, region: ModelRegion, key: str) -> Kept | None:
        kept = region.entries.get(key)
        within = kept is not None and kept.deadline + region.grace > self.now
        return kept if kept is not None and within and self.valid(kept) else None

    def tags_in_use(self) -> Counter[str]:
        used: Counter[str] = Counter()
        for region in self.regions.values():
            for kept in region.entries.values():
                used.update([t for t, born in kept.tags.items() if self.generations[t] == born])
        return used

    # -- reading

    def hit(self, region: ModelRegion, key: str) -> Kept | None:
        """A read of a live entry; ``None`` and no trace where there is none."""
        kept = self.alive(region, key)
        if kept is not None:
            region.counts["hits"] += 1
            region.order.touch(key)
        return kept

    def read(self, region: ModelRegion, key: str, stale: bool = False) -> Kept | None:
        kept = self.present(region, key)
        if kept is None or (kept.deadline <= self.now and not stale):
            region.counts["misses"] += 1
            return None
        region.counts["hits" if kept.deadline > self.now else "stale_hits"] += 1
        region.order.touch(key)
        return kept

    def present(self, region: ModelRegion, key: str) -> Kept | None:
        """The entry if alive or in its grace; what is neither leaves."""
        kept = region.entries.get(key)
        if kept is None:
            return None
        if not self.valid(kept):
            self.leave(region, key, "invalidations")
        elif kept.deadline + region.grace <= self.now:
            self.leave(region, key, "expirations")
        else:
            return kept
        return None

    # -- writing

    def check_weight(self, region: ModelRegion, weight: int) -> None:
        if region.max_weight is not None and weight > region.max_weight:
            region.counts["rejections"] += 1
            raise TooLarge

    def store(
        self, region: ModelRegion, key: str, value: object, deadline: float, tags: tuple[str, ...]
    ) -> None:
        weight = self.weigh(region, value)
        self.check_weight(region, weight)
        self.sweep(region)
        born = {tag: self.generations[tag] for tag in tags}
        old = region.entries.get(key)
        if old is None:
            self.make_room(region, 1, weight, spare=None)
            region.entries[key] = Kept(value, deadline, born, weight)
            region.order.insert(key)
        else:
            if weight > old.weight:
                self.make_room(region, 0, weight - old.weight, spare=key)
            region.entries[key] = Kept(value, deadline, born, weight)
            region.order.touch(key)
        region.counts["sets"] += 1

    def weigh(self, region: ModelRegion, value: object) -> int:
        if region.max_weight is None:
            return 0
        return len(value) if isinstance(value, str) else 1

    def make_room(self, region: ModelRegion, items: int, weight: int, spare: str | None) -> None:
        if self.lacks_room(region, items, weight):
            self.purge(region, spare)
        while self.lacks_room(region, items, weight):
            victim = next(str(key) for key in region.order.ordered() if key != spare)
            self.leave(region, victim, "evictions")

    def lacks_room(self, region: ModelRegion, items: int, weight: int) -> bool:
        return (
            region.max_items is not None and len(region.entries) + items > region.max_items
        ) or (region.max_weight is not None and region.weight + weight > region.max_weight)

    def purge(self, region: ModelRegion, spare: str | None = None) -> None:
        """Entries whose tags ended leave; the regions are too small for a look to miss any."""
        for key, kept in list(region.entries.items()):
            if key != spare and not self.valid(kept):
                self.leave(region, key, "invalidations")

    def remove(self, region: ModelRegion, key: str, count: str) -> bool:
        kept = self.present(region, key)
        if kept is None:
            return False
        alive = kept.deadline > self.now
        self.leave(region, key, count if alive else "expirations")
        return alive

    def leave(self, region: ModelRegion, key: str, count: str) -> None:
        del region.entries[key]
        if count == "evictions":
            region.order.evict(key)
        else:
            region.order.remove(key)
        region.counts[count] += 1

    def clear(self, region: ModelRegion) -> int:
        number = len(region.entries)
        for key in list(region.entries):
            self.leave(region, key, "cleared")
        return number

    def sweep(self, region: ModelRegion) -> None:
        """Expired entries leave when the second of their deadline (and grace) is over."""
        for key, kept in list(region.entries.items()):
            due = kept.deadline + region.grace
            if due != math.inf and math.floor(due) + 1 <= math.floor(self.now):
                self.leave(region, key, "expirations")

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for region in self.regions.values():
            self.sweep(region)
            self.purge(region)
