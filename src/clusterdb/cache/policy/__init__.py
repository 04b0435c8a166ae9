"""The Policy Engine: which entry leaves when a table is full.

One policy a file. To add one: write its file, and add its line to ``POLICIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .base import LinkedList, Policy
from .fifo import Fifo
from .lfu import Lfu
from .lru import Lru
from .recording import CountingLru, RecentLru

__all__ = [
    "POLICIES",
    "CountingLru",
    "Fifo",
    "Lfu",
    "LinkedList",
    "Lru",
    "Policy",
    "RecentLru",
]

POLICIES: Final[dict[str, Callable[[], Policy]]] = {"fifo": Fifo, "lru": Lru, "lfu": Lfu}
"""How to make each policy, by the name it has in a configuration."""
