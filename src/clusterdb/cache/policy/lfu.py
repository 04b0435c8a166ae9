"""LFU: evict what was used least often, among equals what was used longest ago.

Entries of one frequency share a bucket, a recency list; the buckets form a list in order of
frequency, so the victim is the first entry of the first bucket and every operation is O(1).
Source: K. Shah, A. Mitra and D. Matani, "An O(1) algorithm for implementing the LFU cache
eviction scheme", 2010.

A new entry starts one above the frequency of what was evicted last, so that what was popular once
is overtaken in the end (the ageing of LFU-DA: M. Arlitt, L. Cherkasova, J. Dilley, R. Friedrich and
T. Jin, "Evaluating Content Management Techniques for Web Proxy Caches", 2000, with steps of one).
``Lfu(ageing=False)`` is the plain form.

Bad at: change, still: an entry that was read a thousand times outlives a thousand turnovers of the
rest. And at scans of a full cache: they push out everything of the lowest frequency.
"""

from __future__ import annotations

from ..entries import Entry
from .base import LinkedList, Policy

__all__ = ["Lfu"]


class _Bucket:
    """The entries of one frequency, oldest use first."""

    __slots__ = ("entries", "frequency", "next", "prev")

    def __init__(self, frequency: int) -> None:
        self.frequency = frequency
        self.entries = LinkedList()
        self.prev: _Bucket = self
        self.next: _Bucket = self


class Lfu(Policy):
    """Least frequently used."""

    name = "lfu"

    def __init__(self, ageing: bool = True) -> None:
        self._head = _Bucket(0)
        self._ageing = ageing
        self._floor = 0

    def insert(self, entry: Entry) -> None:
        after = self._head
        while after.next is not self._head and after.next.frequency <= self._floor:
            after = after.next  # a step or two: what is evicted has the lowest frequency
        self._place(entry, after, self._floor + 1)

    def touch(self, entry: Entry) -> None:
        bucket: _Bucket = entry.home
        bucket.entries.unlink(entry)
        self._place(entry, bucket, bucket.frequency + 1)
        self._forget_if_empty(bucket)

    def remove(self, entry: Entry) -> None:
        bucket: _Bucket = entry.home
        bucket.entries.unlink(entry)
        entry.home = None
        self._forget_if_empty(bucket)

    def evict(self, entry: Entry) -> None:
        if self._ageing:
            bucket: _Bucket = entry.home
            self._floor = bucket.frequency
        self.remove(entry)

    def heat(self, entry: Entry) -> int:
        bucket: _Bucket = entry.home
        return bucket.frequency - self._floor

    def victim(self, spared: Entry | None = None) -> Entry | None:
        bucket = self._head.next
        found = bucket.entries.first(spared)
        if found is None and bucket is not self._head:
            found = bucket.next.entries.first()
        return found

    def ordered(self) -> list[Entry]:
        found: list[Entry] = []
        bucket = self._head.next
        while bucket is not self._head:
            found += bucket.entries.entries()
            bucket = bucket.next
        return found

    def _place(self, entry: Entry, after: _Bucket, frequency: int) -> None:
        """Put ``entry`` into the bucket of ``frequency``, which belongs right behind ``after``."""
        bucket = after.next
        if bucket is self._head or bucket.frequency != frequency:
            bucket = _Bucket(frequency)
            bucket.prev, bucket.next = after, after.next
            after.next.prev = bucket
            after.next = bucket
        bucket.entries.append(entry)
        entry.home = bucket

    def _forget_if_empty(self, bucket: _Bucket) -> None:
        if bucket.entries.first() is None:
            bucket.prev.next, bucket.next.prev = bucket.next, bucket.prev
