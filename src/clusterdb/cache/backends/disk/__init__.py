"""Entries in one file of this machine, shared by its processes."""

from __future__ import annotations

from .backend import DiskBackend

__all__ = ["DiskBackend"]
