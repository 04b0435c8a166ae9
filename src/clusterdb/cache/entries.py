"""What lives in a table: the resident entries and the states of their tags.

``Entry`` is changed only under the table's guard. ``TagState`` is the shared life of a tag: each
entry points to the states of its tags, so that ending a state ends all its entries in O(1).

The fields a hit reads come first, so that they share a cache line.
"""

from __future__ import annotations

from typing import Any

from .types import FOREVER, Version

__all__ = ["Entry", "TagState"]


class TagState:
    """The life of one tag between two invalidations; identity is its nonce in this process.

    ``uses`` counts the entries and claims that point here: at zero the state is forgotten.
    """

    __slots__ = ("live", "name", "uses")

    def __init__(self, name: str) -> None:
        self.name = name
        self.live = True
        self.uses = 0


class Entry:
    """A resident entry. ``prev``, ``next``, ``home``, ``uses`` and ``votes_at`` belong to the
    eviction policy, ``slot`` and ``place`` to the timer wheel, ``watched`` to the profile.
    """

    __slots__ = (
        "deadline",
        "home",
        "key",
        "next",
        "place",
        "prev",
        "resident",
        "slot",
        "tags",
        "uses",
        "value",
        "version",
        "votes_at",
        "watched",
        "weight",
    )

    def __init__(self, key: str, value: object) -> None:
        self.deadline: float = FOREVER
        self.tags: tuple[TagState, ...] = ()
        self.value = value
        self.key = key
        self.version: Version = 0
        self.weight = 0
        self.resident = False
        self.watched = False
        self.uses = 0
        self.votes_at = 0
        self.prev: Entry | None = None
        self.next: Entry | None = None
        self.home: Any = None
        self.slot: list[Entry] | None = None
        self.place = 0
