"""How often keys were used that are not in the cache: four small counters a bucket.

A bucket is one integer of 61 bits: four cells of a 10-bit fingerprint and a 4-bit count, and the
age (modulo 32) at which it was last looked at. A full bucket gives up the cell of the lowest count.
Ageing halves every count, and costs nothing: a bucket is halved when it is next looked at, once for
each age it missed. Two bytes a cell; a strange key is taken for a known one with a chance of one in
256. Rejected: a count-min sketch, whose error grows with every key that passes by, so that a fixed
threshold ("was it used twice?") soon says yes to all; it needs ten times the memory for the same
answer.
"""

from __future__ import annotations

from array import array
from typing import Final

__all__ = ["History"]

_CELLS: Final = 4
_WIDTH: Final = 14
_CELL: Final = (1 << _WIDTH) - 1
_MOST: Final = 15
_BITS: Final = 4
_MARK_AT: Final = 50  # in the hash: above what chooses the bucket
_MARKS: Final = (1 << (_WIDTH - _BITS)) - 1
_AGE_AT: Final = _CELLS * _WIDTH
_AGES: Final = 31
_COUNTS: Final = sum([_MOST << (_WIDTH * cell) for cell in range(_CELLS)])
_HALVED: Final = [
    sum([(_MOST >> age) << (_WIDTH * cell) for cell in range(_CELLS)]) for age in range(_BITS)
]


class History:
    """Counts of at most ``cells`` keys (rounded up to a power of two), each at most 15."""

    __slots__ = ("_buckets", "_mask", "age", "cells")

    def __init__(self, cells: int) -> None:
        buckets = 1 << max(0, (cells + _CELLS - 1) // _CELLS - 1).bit_length()
        self.cells = buckets * _CELLS
        self.age = 0
        self._mask = buckets - 1
        self._buckets = array("q", bytes(8 * buckets))

    def get(self, hashed: int) -> int:
        """The count of a key, by its hash of 60 bits."""
        bucket = self._load(hashed & self._mask)
        mark = (hashed >> _MARK_AT) & _MARKS
        for cell in range(_CELLS):
            found = (bucket >> (cell * _WIDTH)) & _CELL
            if found >> _BITS == mark and found & _MOST:
                return found & _MOST
        return 0

    def put(self, hashed: int, count: int) -> None:
        """Remember a count of 0 to 15: it replaces the key's own, or the lowest in its bucket."""
        index = hashed & self._mask
        bucket = self._load(index)
        mark = (hashed >> _MARK_AT) & _MARKS
        lowest, place = _MOST + 1, 0
        for cell in range(_CELLS):
            found = (bucket >> (cell * _WIDTH)) & _CELL
            known = found & _MOST
            if known and found >> _BITS == mark:
                place = cell
                break
            if known < lowest:
                lowest, place = known, cell
        shift = place * _WIDTH
        bucket &= ~(_CELL << shift)
        self._buckets[index] = bucket | ((mark << _BITS | count) << shift)

    def _load(self, index: int) -> int:
        """A bucket, as old as the history is now."""
        bucket = self._buckets[index]
        age = self.age & _AGES
        missed = (age - (bucket >> _AGE_AT)) & _AGES
        if not missed:
            return bucket
        if missed >= _BITS:
            return age << _AGE_AT
        cells = bucket & ((1 << _AGE_AT) - 1)
        counts = ((cells & _COUNTS) >> missed) & _HALVED[missed]
        return (cells & ~_COUNTS) | counts | (age << _AGE_AT)
