"""The tables of a cache file, and the rules that every statement shares.

One file is one cache. Every change has a number, its row's in ``changes``. What it wrote has that
number as ``written``, and a version: the number plus the ``lift`` of that time, which a restore of
entries with higher versions raises, so that later ones are above them. ``meta`` has one row: what
turns stored times into times of this boot, and the lift. An entry is
alive while its time is not over, its region was not cleared and none of its tags
ended after it was written; both are comparisons of numbers, so that clearing a region and ending a
tag is one row, whatever the number of entries. Tags that a bad disk made unreadable are dead.

``uses`` and ``rank`` are the order of eviction, lowest first: ``rank`` is a moment in microseconds,
of the last use (LRU), of the first write (FIFO) or of the last use among equal ``uses`` (LFU).
"""

from __future__ import annotations

import json
from typing import Final

__all__ = [
    "APPLICATION_ID",
    "CHANGES_KEPT",
    "FORMAT",
    "SCHEMA",
    "live",
    "stored_tag",
    "stored_tags",
    "tags_column",
]

APPLICATION_ID: Final = 0x43444243  # "CDBC"
FORMAT: Final = 3
CHANGES_KEPT: Final = 10_000

SCHEMA: Final = (
    """CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        boot TEXT NOT NULL,
        origin REAL NOT NULL,
        shift REAL NOT NULL,
        lift INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    """CREATE TABLE regions (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        policy TEXT NOT NULL,
        max_items INTEGER,
        max_weight INTEGER,
        items INTEGER NOT NULL DEFAULT 0,
        weight INTEGER NOT NULL DEFAULT 0,
        cleared INTEGER NOT NULL DEFAULT 0,
        counters TEXT NOT NULL DEFAULT '{}'
    ) STRICT""",
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        region INTEGER NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        written INTEGER NOT NULL,
        deadline REAL,
        weight INTEGER NOT NULL,
        uses INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        tags TEXT,
        value BLOB NOT NULL,
        UNIQUE (region, key)
    ) STRICT""",
    "CREATE INDEX entries_order ON entries (region, uses, rank)",
    "CREATE INDEX entries_deadline ON entries (region, deadline) WHERE deadline IS NOT NULL",
    """CREATE TABLE tags (
        name TEXT PRIMARY KEY,
        ended INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE claims (
        region INTEGER NOT NULL,
        key TEXT NOT NULL,
        token INTEGER NOT NULL,
        member INTEGER NOT NULL,
        lease REAL NOT NULL,
        tags TEXT NOT NULL,
        PRIMARY KEY (region, key)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE changes (
        seq INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        region TEXT NOT NULL,
        key TEXT NOT NULL,
        member INTEGER NOT NULL,
        origin TEXT NOT NULL,
        time REAL NOT NULL,
        version INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE members (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        program TEXT NOT NULL,
        version TEXT NOT NULL,
        address TEXT NOT NULL,
        started REAL NOT NULL,
        seen REAL NOT NULL,
        near_hits INTEGER NOT NULL DEFAULT 0,
        near_misses INTEGER NOT NULL DEFAULT 0,
        lag REAL
    ) STRICT""",
)

_LIVE: Final = """(e.written > r.cleared AND CASE WHEN e.tags IS NULL THEN 1
    WHEN json_valid(e.tags) THEN NOT EXISTS (
        SELECT 1 FROM json_each(e.tags) AS own CROSS JOIN tags AS t ON t.name = own.value
        WHERE t.ended > e.written)
    ELSE 0 END)"""


def live(statement: str) -> str:
    """A statement with ``:live`` replaced by the condition that an entry ``e`` of a region ``r``
    was neither cleared nor lost a tag.
    """
    return statement.replace(":live", _LIVE)


def stored_tag(name: str) -> str:
    """A tag as the file has it: SQLite's JSON can't hold NUL."""
    return name.replace("%", "%25").replace("\0", "%00")


def stored_tags(names: tuple[str, ...]) -> list[str]:
    """Tags as the file has them."""
    return [stored_tag(name) for name in names]


def tags_column(names: tuple[str, ...]) -> str | None:
    """The tags of an entry as its row has them."""
    return json.dumps(stored_tags(names), ensure_ascii=False) if names else None
