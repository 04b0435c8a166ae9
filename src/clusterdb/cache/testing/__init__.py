"""Testing aids, for this package's own tests and for those of backends written elsewhere.

``ManualClock`` stands still until a test moves it. ``FaultyBackend`` wraps a backend and fails on
demand. ``validate_backend`` and ``validate_table`` look for broken structure inside the embedded
backend. :mod:`clusterdb.cache.testing.conformance` is the contract of a backend as checks.
"""

from __future__ import annotations

from .clock import ManualClock
from .faulty import FaultyBackend
from .validate import BrokenStructure, validate_backend, validate_table

__all__ = [
    "BrokenStructure",
    "FaultyBackend",
    "ManualClock",
    "validate_backend",
    "validate_table",
]
