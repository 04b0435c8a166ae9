"""The Policy Engine: which entry leaves when a table is full.

One policy a file. To add one: write its file, and add its line to ``POLICIES``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .adaptive import Adaptive
from .admission import Gate
from .arc import Arc
from .base import LinkedList, Policy, Segment
from .fifo import Fifo
from .lfu import Lfu
from .lirs import Lirs
from .lru import Lru
from .recording import RecentLru, Reporting
from .s3fifo import S3Fifo
from .segmented import Segmented
from .sieve import Sieve
from .two_queue import TwoQueue
from .w_tinylfu import WTinyLfu

__all__ = [
    "POLICIES",
    "Adaptive",
    "Arc",
    "Fifo",
    "Gate",
    "Lfu",
    "LinkedList",
    "Lirs",
    "Lru",
    "Policy",
    "RecentLru",
    "Reporting",
    "S3Fifo",
    "Segment",
    "Segmented",
    "Sieve",
    "TwoQueue",
    "WTinyLfu",
    "kept_order",
]

POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "adaptive": Adaptive,
    "lru": Lru,
    "fifo": Fifo,
    "lfu": Lfu,
    "sieve": Sieve,
    "s3fifo": S3Fifo,
    "arc": Arc,
    "2q": TwoQueue,
    "lirs": Lirs,
    "w_tinylfu": WTinyLfu,
}
"""How to make each policy, by the name it has in a configuration."""


def kept_order(policy: str) -> str:
    """The order that a backend outside of this process keeps for a policy: ``fifo``, ``lfu``, else
    ``lru``, as it knows the uses only in batches.
    """
    return policy if policy in ("fifo", "lfu") else "lru"
