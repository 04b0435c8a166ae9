"""What an eviction policy is, and the linked list they are built of.

A policy orders the resident entries of one table and names the next victim. It decides nothing
else: limits, expiry and tags are the table's. The table calls it under its lock and promises:
``insert`` is given an entry that is not resident, ``touch``, ``remove`` and nothing else one that
is; each resident entry was inserted once. In return every call is O(1).
"""

from __future__ import annotations

from typing import Final

from ..entries import Entry

__all__ = ["LinkedList", "Policy"]


class Policy:
    """Base of the eviction policies."""

    name: str = ""

    def insert(self, entry: Entry) -> None:
        """A new entry became resident."""
        raise NotImplementedError

    def touch(self, entry: Entry) -> None:
        """A resident entry was read or overwritten."""
        raise NotImplementedError

    def remove(self, entry: Entry) -> None:
        """A resident entry leaves: evicted, deleted or expired."""
        raise NotImplementedError

    def victim(self, spared: Entry | None = None) -> Entry | None:
        """The entry to evict next, still resident; ``None`` when there is none but ``spared``."""
        raise NotImplementedError

    def ordered(self) -> list[Entry]:
        """All resident entries, the next victim first. O(n): for a change of policy and tests."""
        raise NotImplementedError


class LinkedList:
    """A circular list through ``prev`` and ``next`` of the entries themselves, O(1) throughout."""

    __slots__ = ("_head",)

    def __init__(self) -> None:
        head: Final = Entry("", None)
        head.prev = head.next = head
        self._head = head

    def append(self, entry: Entry) -> None:
        """Link ``entry``, which is in no list, at the end."""
        head = self._head
        last = head.prev
        assert last is not None
        entry.prev, entry.next = last, head
        last.next = head.prev = entry

    def unlink(self, entry: Entry) -> None:
        """Take ``entry``, which is in this list, out."""
        before, after = entry.prev, entry.next
        assert before is not None
        assert after is not None
        before.next, after.prev = after, before
        entry.prev = entry.next = None

    def first(self, spared: Entry | None = None) -> Entry | None:
        """The entry linked longest ago that is not ``spared``; ``None`` when there is none."""
        entry = self._head.next
        if entry is spared and entry is not None:
            entry = entry.next
        return None if entry is self._head else entry

    def after(self, entry: Entry) -> Entry | None:
        """The entry linked next after ``entry``, which is in this list."""
        found = entry.next
        return None if found is self._head else found

    def entries(self) -> list[Entry]:
        """All entries, first to last. O(n)."""
        found: list[Entry] = []
        at = self._head.next
        while at is not None and at is not self._head:
            found.append(at)
            at = at.next
        return found
