"""The one retry policy: how long to wait before the next attempt. Exponential, with full jitter.

Whoever tries again takes its pauses from here: the way back to a server, a command that a moving
slot turned away, a key that another process is loading, a loader that failed (``loads.retries``).
How often, and for how long in all, is theirs to say, as only they know what a failure means.

Each failure doubles the longest pause, and the pause itself is drawn evenly from nought to it, so
that clients that lost the same server don't come back at the same moment. Source: M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """The pauses between attempts, in seconds: up to ``first``, at last up to ``most``."""

    def __init__(
        self, first: float, most: float, draw: Callable[[], float] = random.random
    ) -> None:
        self._first = first
        self._most = most
        self._draw = draw
        self._longest = first

    def pause(self) -> float:
        """The next pause; never under a tenth of the longest, so that no attempt is wasted."""
        longest = self._longest
        self._longest = min(longest * 2, self._most)
        return longest * (0.1 + 0.9 * self._draw())

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._longest = self._first
