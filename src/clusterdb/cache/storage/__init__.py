"""Databases of record behind a cache: adapters of :class:`clusterdb.cache.rows.Storage`."""

from __future__ import annotations

__all__: list[str] = []
