"""What becomes of invalidations: those that wait, and those that others sent."""

from __future__ import annotations

from .receiving import Receiving
from .waiting import Strategy, Waiting

__all__ = ["Receiving", "Strategy", "Waiting"]
