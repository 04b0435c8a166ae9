"""The named places inside of the cache where a test may wait; none in a build without them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from importlib.util import find_spec

__all__ = ["DELAYS", "points"]

# The chance of a wait, and the longest one in seconds. Random faults alone miss races.
DELAYS = {
    "after-reply-before-install": (0.1, 0.03),
    "after-load-before-fill": (0.2, 0.05),
}


def points() -> dict[str, Callable[..., Awaitable[None]]]:
    """The table of the failpoints; what is put into it without such a build has no effect."""
    if find_spec("clusterdb.cache.failpoints") is None:
        return {}
    table: dict[str, Callable[..., Awaitable[None]]]
    table = import_module("clusterdb.cache.failpoints").FAILPOINTS
    return table
