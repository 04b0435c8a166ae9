"""What is to be written behind, in memory: one intent a key, the newest.

Pure: it decides what is written next, and knows no clock, loop or storage. A key is written by one
batch at a time, so that its versions reach storage in order. What comes meanwhile waits, and only
the newest of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from ..codec import Encoded
from ..intents import Intent

__all__ = ["Pending"]

Place: TypeAlias = tuple[str, str]

_EACH = 200
"""Bytes that an intent takes beside key and value, about."""


class Pending:
    """A coalescing queue of intents: a key keeps its place in it when a newer intent comes."""

    def __init__(self) -> None:
        self._waiting: dict[Place, Intent] = {}
        self._flying: dict[Place, Intent] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._flying)

    @property
    def waiting(self) -> int:
        """How many are in no batch."""
        return len(self._waiting)

    def get(self, place: Place) -> Intent | None:
        """The newest intent of a key."""
        return self._waiting.get(place) or self._flying.get(place)

    def versions(self, places: Iterable[Place] | None = None) -> dict[Place, int]:
        """The newest versions of ``places``, or of all keys, that are pending."""
        known = {**self._flying, **self._waiting}
        wanted = known if places is None else places
        return {place: known[place].version for place in wanted if place in known}

    def behind(self, versions: Mapping[Place, int]) -> bool:
        """Whether any of ``versions``, or an older one of its key, is still pending."""
        for place, version in versions.items():
            for intents in (self._flying, self._waiting):
                intent = intents.get(place)
                if intent is not None and intent.version <= version:
                    return True
        return False

    def add(self, intent: Intent) -> None:
        """Take an intent; nothing happens where a newer one of its key is known."""
        known = self.get(intent.place)
        if known is None or known.version < intent.version:
            self._replace(intent)

    def take(self, most: int) -> list[Intent]:
        """The next batch: the keys that wait longest, but for those in another batch."""
        batch: list[Intent] = []
        for place, intent in self._waiting.items():
            if len(batch) == most:
                break
            if place not in self._flying:
                batch.append(intent)
        for intent in batch:
            del self._waiting[intent.place]
            self._flying[intent.place] = intent
        return batch

    def settled(self, intents: Iterable[Intent]) -> None:
        """These are written, or will never be."""
        for intent in intents:
            del self._flying[intent.place]
            self.size -= _size(intent)

    def failed(self, intents: Iterable[Intent]) -> None:
        """These were not written: they wait again, behind all others, unless a newer one does."""
        for intent in intents:
            del self._flying[intent.place]
            if intent.place in self._waiting:
                self.size -= _size(intent)
            else:
                self._waiting[intent.place] = intent

    def _replace(self, intent: Intent) -> None:
        old = self._waiting.get(intent.place)
        if old is not None:
            self.size -= _size(old)
        self._waiting[intent.place] = intent
        self.size += _size(intent)


def _size(intent: Intent) -> int:
    payload = len(intent.value.payload) if isinstance(intent.value, Encoded) else 0
    return _EACH + len(intent.key) + payload
