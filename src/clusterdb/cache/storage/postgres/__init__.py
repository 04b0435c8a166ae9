"""Rows in a PostgreSQL database."""

from __future__ import annotations

from .storage import PostgresStorage

__all__ = ["PostgresStorage"]
