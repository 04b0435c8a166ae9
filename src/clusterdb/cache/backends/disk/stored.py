"""What a cache file says of its regions, for who opens it without a configuration of their own.

Opening a file with other settings than those of the programs that use it would bring its regions
under these: a look from the command line must not evict anything.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

from ...config import CacheRegion, EvictionPolicy
from .schema import APPLICATION_ID

__all__ = ["stored_regions"]

_KINDS: dict[str, Any] = {kind.__struct_config__.tag: kind for kind in get_args(EvictionPolicy)}


def stored_regions(path: Path) -> dict[str, CacheRegion]:
    """The regions of a file with their policies and limits, by name; none where it can't be read,
    which opening it will tell.
    """
    if not path.is_file():
        return {}
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                return {}
            rows = connection.execute(
                "SELECT name, policy, max_items, max_weight FROM regions WHERE policy IS NOT NULL"
            ).fetchall()
    except sqlite3.Error:
        return {}
    return {
        name: CacheRegion(name, policy=_KINDS[policy](max_items=items, max_memory=weight))
        for name, policy, items, weight in rows
        if policy in _KINDS and not name.startswith("#")
    }
