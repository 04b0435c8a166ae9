"""Admission: which new keys come into a full table, whatever policy it has.

The **doorkeeper** refuses a key that was not seen lately: of the many keys that are used once, none
takes the place of another. The **frequency** filter refuses a key that was used less often than the
next victim, which needs every use to be counted. Both remember in a :class:`.History`, eight cells
an entry. Source: G. Einziger, R. Friedman and B. Manes, "TinyLFU: A Highly Efficient Cache
Admission Policy", ACM Transactions on Storage 2017. The **rate** limit is a bucket of tokens that
fills evenly and holds a second's worth.

Bad at: traffic whose second use comes soon (the doorkeeper makes it miss once more), which is why
the default policy needs none of it.
"""

from __future__ import annotations

from typing import Final

from .history import History
from .segmented import HASH

__all__ = ["Gate"]

_CELLS: Final = 8
_PERIOD: Final = 10
_MOST: Final = 15


class Gate:
    """Refuses new keys. ``filter`` is ``doorkeeper``, ``frequency`` or empty; ``rate`` is in keys a
    second, 0 is no limit.
    """

    def __init__(self, filter: str, rate: int, now: float) -> None:  # noqa: A002 - as configured
        self.filter = filter
        self.counts_uses = filter == "frequency"
        self._rate = rate
        self._burst = max(1.0, float(rate))
        self._tokens = self._burst
        self._filled = now
        self._history = History(_CELLS)
        self._seen = 0
        self._period = _PERIOD

    def resize(self, capacity: int) -> None:
        """How many entries fit; 0 is no limit, where nothing is filtered."""
        cells = _CELLS * capacity
        if not cells <= self._history.cells <= 4 * cells and capacity:
            self._history = History(cells)
        self._period = max(1, _PERIOD * capacity)

    def used(self, key: str) -> None:
        """A key was used, or asks to come in."""
        history, hashed = self._history, hash(key) & HASH
        self._seen += 1
        if self._seen >= self._period:
            self._seen = 0
            history.age += 1
        history.put(hashed, min(_MOST, history.get(hashed) + 1))

    def frequency(self, key: str) -> int:
        """How often a key was used lately, 15 at most."""
        return self._history.get(hash(key) & HASH)

    def too_fast(self, now: float) -> bool:
        """Whether one more new key is over the rate; takes a token if not."""
        if not self._rate:
            return False
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1.0:
            return True
        self._tokens -= 1.0
        return False

    def filters_out(self, key: str, victim: str | None) -> bool:
        """Whether ``key`` is not worth the place of ``victim``; ``None``: there is room."""
        if not self.filter:
            return False
        before = self.frequency(key)
        self.used(key)
        if victim is None:
            return False
        if self.filter == "doorkeeper":
            return before == 0
        return before + 1 < self.frequency(victim)
