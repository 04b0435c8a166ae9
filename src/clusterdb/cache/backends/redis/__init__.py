"""Entries on Redis servers: one server, behind Sentinel, or a Cluster."""

from __future__ import annotations

from .backend import RedisBackend

__all__ = ["RedisBackend"]
