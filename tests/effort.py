"""How thorough the tests are that try many seeds or examples: one number for all of them.

``CLUSTERDB_EFFORT`` is a factor, 1 where it is not set. ``./dev test --quick`` takes a quarter of
each number; ``CLUSTERDB_EFFORT=20`` tries twenty times as many.
"""

import math
import os

from hypothesis import HealthCheck, settings

__all__ = ["EFFORT", "set_up_hypothesis", "times"]

FEWEST = 50
"""Examples of a property that names no number: with a quarter, some broken code was not found."""

EFFORT = float(os.environ.get("CLUSTERDB_EFFORT", "1"))


def times(number: int) -> int:
    """How many seeds or examples are tried where ``number`` are the usual ones."""
    return math.ceil(number * EFFORT)


def set_up_hypothesis() -> None:
    """No limit of time for an example: on a busy machine it says nothing about the code."""
    settings.register_profile(
        "effort",
        max_examples=max(times(100), FEWEST),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.load_profile("effort")
