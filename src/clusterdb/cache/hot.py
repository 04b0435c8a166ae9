"""Which modules run on every hit, so that a build may compile them.

This is the one list: ``setup.py`` runs this file by itself to know what to compile, and
``cache doctor`` imports it to know where to look. It must therefore import nothing of the package.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HOT_MODULES"]

HOT_MODULES: Final = (
    "entries",
    "tags",
    "claims",
    "guard",
    "wheel",
    "intake",
    "profile",
    "residents",
    "table",
    "hits",
    "policy.base",
    "policy.fifo",
    "policy.lru",
    "policy.lfu",
    "policy.recording",
    "policy.ghosts",
    "policy.sieve",
    "policy.s3fifo",
    "policy.arc",
    "policy.two_queue",
    "policy.lirs",
    "policy.history",
    "policy.segmented",
    "policy.admission",
    "policy.shadows",
    "policy.adaptive",
    "policy.w_tinylfu",
)
"""Names inside ``clusterdb.cache``. They are compiled together or not at all."""
