"""W-TinyLFU: a small window, and a main part that admits only what is used more often.

The window starts at a hundredth of the room and climbs hills: it grows or shrinks by a step, and
goes on in that direction while the hit ratio rises, else turns round; steps become smaller until
the load changes. Sources: G. Einziger, R. Friedman and B. Manes, "TinyLFU: A Highly Efficient Cache
Admission Policy", ACM Transactions on Storage 2017; G. Einziger, O. Eytan, R. Friedman and B.
Manes, "Adaptive Software Cache Management", Middleware 2018 (the climber).

Bad at: loads where a key's second use is worth more than its past, and short ones: a climber
needs several turns of ten times the capacity to get from one end to the other.
"""

from __future__ import annotations

from typing import Final

from ..entries import Entry
from .segmented import STRICT, Segmented

__all__ = ["WTinyLfu"]

_SMALLEST: Final = 0.01
_LARGEST: Final = 0.8
_STEP: Final = 0.0625
_DECAY: Final = 0.98
_RESTART: Final = 0.05
_TURN: Final = 10


class WTinyLfu(Segmented):
    """Window TinyLFU with an adaptive window."""

    name = "w_tinylfu"

    def __init__(self) -> None:
        super().__init__()
        self._hits = self._misses = 0
        self._ratio = 0.0
        self._step = _STEP
        self._turn = 0

    def resize(self, capacity: int) -> None:
        super().resize(capacity)
        self._turn = _TURN * capacity

    def insert(self, entry: Entry) -> None:
        self._misses += 1
        super().insert(entry)
        if self._turn and self._hits + self._misses >= self._turn:
            self._climb()

    def touch(self, entry: Entry) -> None:
        self._hits += 1
        super().touch(entry)

    def _climb(self) -> None:
        ratio = self._hits / (self._hits + self._misses)
        change, self._ratio = ratio - self._ratio, ratio
        self._hits = self._misses = 0
        step = self._step if change >= 0 else -self._step
        if abs(change) >= _RESTART:
            self._step = _STEP if step > 0 else -_STEP
        else:
            self._step = step * _DECAY
        share = min(_LARGEST, max(_SMALLEST, self._share + step))
        self.steer(share, STRICT)
