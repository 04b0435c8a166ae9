"""Partitioning: which of several servers hold a key. Pure; `transport.ring` sends accordingly."""

from __future__ import annotations

from .advice import cluster_problems
from .balance import PartMove, balanced_loads, even_weights, least_moves, part_moves
from .hashing import hash64, hash_tag
from .ring import HashRing

__all__ = [
    "HashRing",
    "PartMove",
    "balanced_loads",
    "cluster_problems",
    "even_weights",
    "hash64",
    "hash_tag",
    "least_moves",
    "part_moves",
]
