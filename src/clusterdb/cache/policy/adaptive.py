"""Adaptive, the default: the window and the rule that would have hit most lately.

No fixed policy is best everywhere. LRU wins where what was used last is used next, and finds
nothing in a loop; W-TinyLFU wins on steady popularity, and locks out what is new when popularity
moves; S3-FIFO lies between. This policy is a :class:`Segmented` cache, which is any of them at the
turn of two numbers, and six shadow caches that vote on the two numbers (:mod:`.shadows`). A change
flushes nothing: entries stay where they are, and the segments grow or shrink as entries come.

The votes are hits of sampled keys. They fade, so that the vote follows the load, and a challenger
must lead by half a percent of the requests and two hits more, so that noise changes nothing. A hit
of a key that is used often and that all shadows hold says nothing for one plan or another: it goes
untold until some other keys came into them. So most hits, in a small cache too, cost what they cost
in W-TinyLFU: a count and a move in a list.

The sources are those of the parts. What is new, as far as we know, is that the shadows vote on
the rule of admission as well as on the window, and that the rules reach from LRU to LFU.

Bad at: loads that change faster than the votes (eight times the capacity is remembered); misses of
small caches, where all keys are in the sample and each pays for six shadows.
"""

from __future__ import annotations

from typing import Final

from ..entries import Entry
from .segmented import BALANCED, HASH, OPEN, STRICT, TWICE, Segmented
from .shadows import Plan, Shadows

__all__ = ["PLANS", "Adaptive"]

PLANS: Final = [
    Plan("frequency", 0.01, STRICT),
    Plan("scan-resistant", 0.02, BALANCED),
    Plan("small window", 0.1, TWICE),
    Plan("window", 0.3, TWICE),
    Plan("large window", 0.7, TWICE),
    Plan("recency", 1.0, OPEN),
]
"""From LFU to LRU."""

_FIRST: Final = 2
_ENOUGH: Final = 1024
_SAMPLE_AT: Final = 26
_SAMPLES: Final = (1 << 24) - 1
_NEVER: Final = 1 << 60


class Adaptive(Segmented):
    """Steered by the votes of shadow caches."""

    name = "adaptive"

    def __init__(self) -> None:
        super().__init__()
        self._plan = _FIRST
        self._share, self._rule = PLANS[_FIRST].share, PLANS[_FIRST].rule
        self._shadows: Shadows | None = None
        self._shadow_size = self._shadow_capacity = 0
        self._threshold = 0
        self._arrivals = 0

    @property
    def plan(self) -> Plan:
        """What it does at present."""
        return PLANS[self._plan]

    def resize(self, capacity: int) -> None:
        super().resize(capacity)
        if not capacity:
            self._shadows, self._shadow_capacity = None, 0
            self._threshold = 0
            return
        size = min(capacity, _ENOUGH)
        before = self._shadow_capacity
        if before and 3 * before <= 4 * capacity and 3 * capacity <= 4 * before:
            return  # the sample is still fit to tell one plan from another
        self._shadows = Shadows(PLANS, size, self._plan, self._arrivals)
        self._shadow_capacity = capacity
        self._threshold = size * (_SAMPLES + 1) // capacity

    def insert(self, entry: Entry) -> None:
        hashed = hash(entry.key) & HASH
        entry.votes_at = _NEVER
        if (hashed >> _SAMPLE_AT) & _SAMPLES < self._threshold:
            self._vote(entry, hashed)
        super().insert(entry)

    def touch(self, entry: Entry) -> None:
        super().touch(entry)
        if entry.votes_at <= self._arrivals:
            self._vote(entry, hash(entry.key) & HASH)

    def _vote(self, entry: Entry, hashed: int) -> None:
        shadows = self._shadows
        if shadows is None:
            return
        if shadows.request(hashed):
            self._plan = shadows.best
            self.steer(PLANS[self._plan].share, PLANS[self._plan].rule)
        self._arrivals = shadows.arrivals
        entry.votes_at = shadows.quiet_until
