"""The Store Manager's write modes: how writes reach the storage behind a cache, and reads it."""

from __future__ import annotations

from .backend import StoredBackend, Stores, no_storage, storage_name
from .volatile import Volatile

__all__ = ["StoredBackend", "Stores", "Volatile", "no_storage", "storage_name"]
