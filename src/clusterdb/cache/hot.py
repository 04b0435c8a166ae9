"""Which modules run on every hit, read or write, so that a build may compile them.

This is the one list: ``setup.py`` runs this file by itself to know what to compile, and
``cache doctor`` imports it to know where to look. It must therefore import nothing of the package.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HOT_MODULES"]

HOT_MODULES: Final = (
    # a hit in process
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
    "policy.handover",
    # a read or a write of a backend that encodes
    "access",
    "decoding",
    "invalidation.waiting",
    "keys",
    "timer",
    "versions",
    "codec.envelope",
    "codec.integer",
    "codec.messagepack",
    "codec.plain",
    "codec.region",
    "codec.stamps",
    # a write through to storage
    "write_modes.committing",
    "write_modes.fencing",
    "write_modes.items",
    "write_modes.plain",
    "write_modes.rows",
    "storage.postgres.outbox",
    "storage.postgres.own",
    "storage.postgres.writing",
    # the way to Redis
    "near",
    "backends.redis.backend",
    "backends.redis.confirming",
    "backends.redis.effects",
    "backends.redis.held",
    "backends.redis.levels",
    "backends.redis.limits",
    "backends.redis.link",
    "backends.redis.names",
    "backends.redis.reading",
    "backends.redis.stored",
    "backends.redis.succession",
    "backends.redis.writing",
    "transport.cluster",
    "transport.connection",
    "transport.lane",
    "transport.node",
    "transport.packing",
    "transport.slots",
    "transport.standalone",
)
"""Names inside ``clusterdb.cache``. They are compiled together or not at all."""
