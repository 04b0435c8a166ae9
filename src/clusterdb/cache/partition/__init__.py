"""Partitioning: which of several servers hold a key. Pure; `transport.ring` sends accordingly."""

from __future__ import annotations

from .advice import cluster_problems
from .hashing import hash64, hash_tag
from .ring import HashRing

__all__ = ["HashRing", "cluster_problems", "hash64", "hash_tag"]
