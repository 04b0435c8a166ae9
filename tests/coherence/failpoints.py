"""How long workers wait at the named places inside of the cache: random faults alone miss races."""

from __future__ import annotations

from typing import Final

__all__ = ["DELAYS"]

DELAYS: Final = {
    "after-reply-before-install": (0.1, 0.03),
    "after-load-before-fill": (0.2, 0.05),
}
"""For each failpoint the chance of a wait, and the longest one in seconds."""
