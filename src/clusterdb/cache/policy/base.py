"""What an eviction policy is, and the linked list they are built of.

A policy orders the resident entries of one table and names the next victim. It decides nothing
else: limits, expiry and tags are the table's. The table calls it under its lock and promises:
``insert`` is given an entry that is not resident, ``touch``, ``remove``, ``evict`` only one that
is; each resident entry was inserted once. In return every call is O(1), some of them amortised.
"""

from __future__ import annotations

from typing import Final

from ..entries import Entry

__all__ = ["LinkedList", "Policy", "Segment"]


class Policy:
    """Base of the eviction policies."""

    name: str = ""

    def resize(self, capacity: int) -> None:
        """How many entries fit, at the weights they have now; 0: no limit."""

    def expect(self, key: str) -> None:
        """Room is made next for a new entry under ``key``."""

    def insert(self, entry: Entry) -> None:
        """A new entry became resident."""
        raise NotImplementedError

    def touch(self, entry: Entry) -> None:
        """A resident entry was read or overwritten."""
        raise NotImplementedError

    def remove(self, entry: Entry) -> None:
        """A resident entry leaves: deleted, expired, or by another policy from now on."""
        raise NotImplementedError

    def evict(self, entry: Entry) -> None:
        """A resident entry leaves because :meth:`victim` named it."""
        self.remove(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        """The entry to evict next, still resident; ``None`` when there is none but ``spared``.

        It may sort entries on its way; asked again before anything else happens, it names the same.
        """
        raise NotImplementedError

    def ordered(self) -> list[Entry]:
        """All resident entries, about in the order in which they would leave. O(n): for a change
        of policy and tests.
        """
        raise NotImplementedError

    def heat(self, entry: Entry) -> int:
        """How often a resident entry was used lately; 0 from a policy that does not know."""
        del entry
        return 0

    def promise(self, key: str) -> int:
        """How often a key that is not resident was used lately, as far as the policy knows."""
        del key
        return 0


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


class Segment(LinkedList):
    """A list that counts its entries, and whose entries know it as their ``home``."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def append(self, entry: Entry) -> None:
        """Link ``entry``, which is in no list, at the end."""
        head = self._head
        last = head.prev
        assert last is not None
        entry.prev, entry.next = last, head
        last.next = head.prev = entry
        entry.home = self
        self.count += 1

    def unlink(self, entry: Entry) -> None:
        """Take ``entry``, which is in this list, out."""
        before, after = entry.prev, entry.next
        assert before is not None
        assert after is not None
        before.next, after.prev = after, before
        entry.prev = entry.next = entry.home = None
        self.count -= 1

    def renew(self, entry: Entry) -> None:
        """Move ``entry``, which is in this list, to the end."""
        head = self._head
        before, after, last = entry.prev, entry.next, head.prev
        assert before is not None
        assert after is not None
        assert last is not None
        if after is head:
            return
        before.next, after.prev = after, before
        entry.prev, entry.next = last, head
        last.next = head.prev = entry
