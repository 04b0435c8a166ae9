"""When to load a value again before it expires: the XFetch rule.

If all who read a popular entry wait for its expiry, all of them miss at once. Here each reader
draws a lot instead, and the nearer the expiry the more likely it is that one of them loads early:

    load now if  now - delta * beta * ln(draw) >= expiry,  draw evenly from (0, 1]

``delta`` is how long a load takes. Source: A. Vattani, F. Chierichetti, K. Lowenstein, "Optimal
Probabilistic Cache Stampede Prevention", VLDB 2015, which proves that the exponential distribution
is the best, and that ``beta`` = 1 is a good choice; above it loads are earlier, below it later.

Rejected: keeping ``delta`` with each entry, as the paper does. It costs eight bytes an entry in
every store; a moving average of the region's loads in this process costs nothing, and the rule
forgives a ``delta`` that is off by a factor, as ``beta`` is one.

Pure: the time left and the draw are arguments.
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Pace"]

_NEVER_DRAWN: Final = 20.0
"""Beyond so many times ``delta * beta`` before the expiry the odds are one in five hundred million:
whoever is further away need not draw."""

_WEIGHT: Final = 0.2
"""That of the latest load in the average."""


class Pace:
    """How long the loads of one region take, and which hits are to be loaded again.

    ``beta`` 0 is never. ``horizon``: seconds before the expiry at which it begins to be thinkable.
    """

    __slots__ = ("_beta", "_delta", "horizon")

    def __init__(self) -> None:
        self._beta = 0.0
        self._delta: float | None = None
        self.horizon = 0.0

    def configure(self, beta: float) -> None:
        """Change ``beta``; what was measured stays."""
        self._beta = beta
        self._look_ahead()

    def note(self, seconds: float) -> None:
        """A load took so long."""
        known = self._delta
        self._delta = seconds if known is None else known + _WEIGHT * (seconds - known)
        self._look_ahead()

    def due(self, expires_in: float, draw: float) -> bool:
        """Whether this reader is to load again what expires in so many seconds; ``draw`` is evenly
        from [0, 1). Before a load was measured nobody is.
        """
        if not self.horizon or expires_in > self.horizon:
            return False
        return expires_in <= -math.log(1.0 - draw) * self._beta * (self._delta or 0.0)

    def _look_ahead(self) -> None:
        self.horizon = _NEVER_DRAWN * self._beta * (self._delta or 0.0)
