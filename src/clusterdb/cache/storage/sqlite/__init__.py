"""Rows in a SQLite file, on one writing thread."""

from __future__ import annotations

from .storage import SQLiteStorage

__all__ = ["SQLiteStorage"]
