"""What the requests of one table look like: a miss-ratio curve, the last sampled requests, hot
keys.

**The curve** comes from the reuse distances of sampled keys: how many other keys were asked for
since a key's last use. An LRU of more entries than that hits. Keys are sampled by their hash; once
more than 1,024 are known the share is lowered and the highest hashes are forgotten, so the memory
is constant. Source: C. Waldspurger, N. Park, A. Garthwaite and I. Ahmad, "Efficient MRC
Construction with SHARDS", FAST 2015 (fixed size, with the correction for hot keys that fall in or
out of the sample). **Hot keys** are counted among every 251st hit: A. Metwally, D. Agrawal and A.
El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005.

A hit on a key outside of the sample pays for one look at a bit of its entry. Everything runs under
the table's guard, and takes some 300 kB a table at most.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from heapq import heappop, heappush
from math import log2
from typing import Final

from .entries import Entry
from .policy.segmented import HASH

__all__ = ["Profile"]

_KEYS: Final = 1024
_LOG: Final = 1 << 14
_AT: Final = 26
_WHOLE: Final = 1 << 24
_FIRST_SHARE: Final = 16
_OCTAVE: Final = 8
_OCTAVES: Final = 40
_HOT: Final = 64
_EVERY: Final = 251


class Profile:
    """The profile of one table."""

    def __init__(self) -> None:
        self._threshold = _WHOLE // _FIRST_SHARE
        self._time = 0
        self._last: dict[int, int] = {}
        self._times: list[int] = []
        self._highest: list[tuple[int, int]] = []
        self._counts = [0.0] * (_OCTAVE * _OCTAVES)
        self._cold = 0.0
        self._expected = 0.0
        self._log = array("Q")
        self._logged = 0
        self._until_hot = _EVERY
        self._hot: dict[str, int] = {}
        self._hot_seen = 0
        self.tap: array[int] | None = None
        self.tap_below = 0

    @property
    def share(self) -> float:
        """Of all keys, which share is in the sample."""
        return self._threshold / _WHOLE

    def came(self, entry: Entry) -> None:
        """A new entry was put in."""
        hashed = hash(entry.key) & HASH
        sampled = (hashed >> _AT) & (_WHOLE - 1)
        self._expected += self.share
        entry.watched = sampled < self._threshold or sampled < self.tap_below
        if entry.watched:
            self.request(hashed)

    def passed(self, batch: list[Entry]) -> None:
        """These entries were read; those that are watched are told of one by one."""
        self._expected += len(batch) * self.share
        self._until_hot -= len(batch)
        while self._until_hot <= 0:
            self._count_hot(batch[self._until_hot % len(batch)].key)
            self._until_hot += _EVERY

    def hit(self, entry: Entry) -> None:
        """A watched entry was read. It is watched no more where its key left the sample."""
        hashed = hash(entry.key) & HASH
        sampled = (hashed >> _AT) & (_WHOLE - 1)
        if sampled < self._threshold or sampled < self.tap_below:
            self.request(hashed)
        else:
            entry.watched = False

    def request(self, hashed: int) -> None:
        """A key that may be in the sample was asked for."""
        sampled = (hashed >> _AT) & (_WHOLE - 1)
        tap = self.tap
        if tap is not None and sampled < self.tap_below:
            tap.append(hashed)
        if sampled >= self._threshold:
            return
        if len(self._log) < _LOG:
            self._log.append(hashed)
        else:
            self._log[self._logged % _LOG] = hashed
        self._logged += 1
        times, before = self._times, self._last.get(hashed, -1)
        if before < 0:
            self._cold += 1.0
            heappush(self._highest, (-sampled, hashed))
        else:
            at = bisect_left(times, before)
            distance = (len(times) - at) / self.share
            self._counts[min(len(self._counts) - 1, int(_OCTAVE * log2(distance)))] += 1.0
            del times[at]
        self._time += 1
        times.append(self._time)
        self._last[hashed] = self._time
        if len(times) > _KEYS:
            self._lower()

    def _lower(self) -> None:
        """Forget the key of the highest hash, and take in none as high any more."""
        negative, hashed = heappop(self._highest)
        del self._times[bisect_left(self._times, self._last.pop(hashed))]
        before, self._threshold = self._threshold, max(1, -negative)
        kept = self._threshold / before
        self._counts = [count * kept for count in self._counts]
        self._cold *= kept
        self._expected *= kept

    def _count_hot(self, key: str) -> None:
        hot = self._hot
        self._hot_seen += 1
        known = hot.get(key, 0)
        if not known and len(hot) >= _HOT:
            least = min(hot, key=hot.__getitem__)
            known = hot.pop(least)
        hot[key] = known + 1

    # -- recording

    def record(self, share: float | None, entries: Mapping[str, Entry]) -> None:
        """Note every request of a share of the keys from now on; ``None`` ends it."""
        self.tap = None if share is None else array("Q")
        self.tap_below = 0 if share is None else max(1, int(share * _WHOLE))
        below = max(self._threshold, self.tap_below)
        for key, entry in entries.items():
            entry.watched = ((hash(key) & HASH) >> _AT) & (_WHOLE - 1) < below

    def recorded(self) -> bytes:
        """What was noted since the last call."""
        tap = self.tap
        if tap is None:
            return b""
        self.tap = array("Q")
        return _little_endian(tap)

    # -- what it found

    def copy(self) -> Profile:
        """One that does not change."""
        other = Profile()
        other._threshold = self._threshold
        other._counts = list(self._counts)
        other._cold, other._expected = self._cold, self._expected
        other._log, other._logged = self._log[:], self._logged
        other._hot, other._hot_seen = dict(self._hot), self._hot_seen
        return other

    def requests(self) -> float:
        """How many requests of sampled keys the curve is made of."""
        return sum(self._counts) + self._cold

    def curve(self) -> list[tuple[float, float]]:
        """Sizes, and the share of requests that an LRU of the size hits; eight sizes an octave."""
        seen = self.requests()
        correction = self._expected - seen
        total = max(self._expected, 1.0)
        hits, found = correction, []
        for index in range(len(self._counts)):
            hits += self._counts[index]
            found.append((2.0 ** ((index + 1) / _OCTAVE), min(1.0, max(0.0, hits / total))))
        return found

    def reuses(self) -> tuple[float, list[float]]:
        """All requests so far, and of them how many were reuses at each distance of
        :meth:`curve`, as the sample tells.
        """
        share = self.share
        counts = [count / share for count in self._counts]
        counts[0] += (self._expected - self.requests()) / share
        return self._expected / share, counts

    def distances(self) -> list[tuple[float, float]]:
        """Reuse distances, and the share of the sampled requests that had them."""
        total = max(self.requests(), 1.0)
        return [
            (2.0 ** ((index + 0.5) / _OCTAVE), self._counts[index] / total)
            for index in range(len(self._counts))
        ]

    def cold(self) -> float:
        """The share of the sampled requests that were the first of their key."""
        return self._cold / max(self.requests(), 1.0)

    def recent(self) -> list[int]:
        """The last sampled requests, oldest first, of keys that are still in the sample."""
        at = self._logged % _LOG if self._logged > _LOG else 0
        log = list(self._log)
        below = self._threshold
        return [key for key in log[at:] + log[:at] if (key >> _AT) & (_WHOLE - 1) < below]

    def hot(self) -> list[tuple[str, float]]:
        """The keys most asked for among the hits, with their share of these, about."""
        seen = max(self._hot_seen, 1)
        ranked = sorted(self._hot.items(), key=lambda item: -item[1])
        return [(key, count / seen) for key, count in ranked]


def _little_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
