"""Backup and restore: see :mod:`.service`."""

from __future__ import annotations

from .manifest import RegionCounts
from .objects import ObjectStore
from .restoring import RestoreReport
from .service import BackupInfo, Backups, Host, PruneReport
from .throttle import Throttle
from .verifying import VerifyReport

__all__ = [
    "BackupInfo",
    "Backups",
    "Host",
    "ObjectStore",
    "PruneReport",
    "RegionCounts",
    "RestoreReport",
    "Throttle",
    "VerifyReport",
]
