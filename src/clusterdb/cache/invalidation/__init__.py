"""What becomes of invalidations: those that wait, and those that others sent."""

from __future__ import annotations

from .receiving import Receiving

__all__ = ["Receiving"]
