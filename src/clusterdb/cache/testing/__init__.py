"""Testing aids, for this package's own tests and for those of its users.

``ManualClock`` stands still until a test moves it. ``disabled`` lets a cache keep nothing for a
while, ``recorded`` counts the hits and misses of a piece of code. ``FaultyBackend`` wraps a backend
and fails on demand, ``FaultyStorage`` a storage; ``EncodingBackend`` wraps one that encodes, for
checks with plain values.
``validate_backend`` and ``validate_table`` look for broken structure inside
the embedded backend. Fixtures for pytest are in :mod:`clusterdb.cache.testing.fixtures`;
:mod:`clusterdb.cache.testing.conformance` is the contract of a backend as checks,
:mod:`clusterdb.cache.testing.storage` that of a storage.
"""

from __future__ import annotations

from .clock import ManualClock
from .encoding import EncodingBackend
from .faulty import FaultyBackend
from .faulty_storage import FaultyStorage
from .recording import Reads, disabled, recorded
from .validate import BrokenStructure, validate_backend, validate_table

__all__ = [
    "BrokenStructure",
    "EncodingBackend",
    "FaultyBackend",
    "FaultyStorage",
    "ManualClock",
    "Reads",
    "disabled",
    "recorded",
    "validate_backend",
    "validate_table",
]
