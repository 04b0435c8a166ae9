"""The memory budget of the process: in steps, so that a cache gives way before anything fails.

Once a second the resident memory of the whole process is compared with the budget, whoever took it:

======================  ========================================================
from 90% of the budget  nothing new comes in (counted in ``refused_by_memory``)
from 95%                also, a twentieth of the entries is evicted each second
from 100%               also, writes fail with :class:`.OutOfMemory`
======================  ========================================================

A step ends as soon as the memory is under its mark. What is read and overwritten in place goes on
meanwhile, but from 100% on. Between two looks a burst of writes may pass the budget. Rejected:
``ulimit``, which kills; counting what the cache itself holds, which is not what runs out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from ..table import Table

__all__ = ["Pressure", "resident_memory"]

_STOP: Final = 0.9
_SHRINK: Final = 0.95
_EVICTED: Final = 0.05
_STATM: Final = Path("/proc/self/statm")


def resident_memory() -> int | None:
    """Bytes this process has in memory; ``None`` where the system does not say."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Pressure:
    """Holds the tables of one backend to a budget of ``limit`` bytes."""

    def __init__(self, limit: int, measure: Callable[[], int | None] = resident_memory) -> None:
        self.limit = limit
        self.used: int | None = None
        self._measure = measure
        self._pressed = False

    def apply(self, tables: Iterable[Table]) -> int:
        """Take a look, and the step that is due; how many entries were evicted."""
        used = self.used = self._measure()
        share = 0.0 if used is None else used / self.limit
        if share < _STOP and not self._pressed:
            return 0
        self._pressed = share >= _STOP
        budget = (used, self.limit) if used is not None and share >= 1.0 else None
        evict = _EVICTED if share >= _SHRINK else 0.0
        return sum([table.press(budget, not self._pressed, evict) for table in tables])

    @property
    def problem(self) -> str | None:
        """A sentence for a person, while there is something to say."""
        if self.used is None:
            return None if _STATM.exists() else "max_process_memory is not kept: no /proc tells it"
        share = self.used / self.limit
        if share < _STOP:
            return None
        step = (
            "writes fail"
            if share >= 1.0
            else "entries are evicted"
            if share >= _SHRINK
            else "nothing new is kept"
        )
        return f"the process holds {share:.0%} of max_process_memory {self.limit} bytes: {step}"
