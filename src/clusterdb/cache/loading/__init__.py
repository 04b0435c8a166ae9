"""Loads: one loader call a key, shared by all who wait, that loses to any invalidation."""

from __future__ import annotations

from .flights import LoadPlan, Loads
from .loader import LoadContext, Loader

__all__ = ["LoadContext", "LoadPlan", "Loader", "Loads"]
