"""The eviction policies again, as slow and as plain as can be: what the fast ones must equal."""

from collections.abc import Hashable
from itertools import count
from typing import Protocol


class NaivePolicy(Protocol):
    def insert(self, key: Hashable) -> None: ...
    def touch(self, key: Hashable) -> None: ...
    def remove(self, key: Hashable) -> None: ...
    def evict(self, key: Hashable) -> None: ...
    def ordered(self) -> list[Hashable]: ...


class NaiveFifo:
    """A list in order of insertion."""

    def __init__(self) -> None:
        self.keys: list[Hashable] = []

    def insert(self, key: Hashable) -> None:
        self.keys.append(key)

    def touch(self, key: Hashable) -> None:
        assert key in self.keys

    def remove(self, key: Hashable) -> None:
        self.keys.remove(key)

    def evict(self, key: Hashable) -> None:
        self.remove(key)

    def ordered(self) -> list[Hashable]:
        return list(self.keys)


class NaiveLru(NaiveFifo):
    """A list in order of use."""

    def touch(self, key: Hashable) -> None:
        self.keys.remove(key)
        self.keys.append(key)


class NaiveLfu:
    """How often and when last each key was used; what is new starts above what left last."""

    def __init__(self) -> None:
        self.uses: dict[Hashable, tuple[int, int]] = {}
        self.clock = count()
        self.floor = 0

    def insert(self, key: Hashable) -> None:
        assert key not in self.uses
        self.uses[key] = (self.floor + 1, next(self.clock))

    def touch(self, key: Hashable) -> None:
        self.uses[key] = (self.uses[key][0] + 1, next(self.clock))

    def remove(self, key: Hashable) -> None:
        del self.uses[key]

    def evict(self, key: Hashable) -> None:
        self.floor = self.uses[key][0]
        self.remove(key)

    def ordered(self) -> list[Hashable]:
        return sorted(self.uses, key=lambda key: self.uses[key])


NAIVE: dict[str, type[NaivePolicy]] = {"fifo": NaiveFifo, "lru": NaiveLru, "lfu": NaiveLfu}
