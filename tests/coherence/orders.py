"""What a worker process is told: its part in a run, as a file it reads at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from tests.coherence.keys import Key, layout

__all__ = ["Orders", "Rates"]


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Calls a second of one process; arrivals are open: they don't wait for each other.

    ``bursts`` of ``burst`` near reads each, with a turn of the event loop between two bursts. A
    loader takes up to ``loading`` seconds.
    """

    writes: float = 8.0
    bumps: float = 2.0
    tag_bumps: float = 0.7
    loads: float = 60.0
    loading: float = 0.03
    strong: float = 30.0
    fresh: float = 10.0
    lookups: float = 20.0
    bursts: float = 120.0
    burst: int = 24
    remove: float = 0.1
    fleeting: float = 0.1


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """``process`` is a number no other process of the run ever had; ``slot`` says which keys it
    owns, and a process that takes the place of a killed one has its slot.

    ``subject``: which cache is under test, see `subjects`; ``settings`` are for it. ``delays``:
    for each failpoint the chance of a delay and its longest time in seconds.
    """

    subject: str
    settings: dict[str, Any]
    slot: int
    process: int
    processes: int
    seed: int
    history: str
    origin: str
    bound: float = 1.0
    rates: Rates = Rates()
    layout: dict[str, int] = {}
    mutant: str = ""
    delays: dict[str, tuple[float, float]] = {}
    limit: float = 15.0

    @property
    def waits(self) -> bool:
        """Whether a call waits where the near tier has no answer: a file is read without."""
        return self.settings.get("backend", {}).get("type") != "disk"

    @property
    def keys(self) -> list[Key]:
        return layout(self.processes, **self.layout)

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, path: Path) -> Orders:
        return msgspec.json.decode(path.read_bytes(), type=cls)
