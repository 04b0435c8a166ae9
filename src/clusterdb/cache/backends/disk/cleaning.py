"""Upkeep of a cache file that takes its time: what nobody uses goes, and free pages are given back.

What expired or is dead goes within seconds (:mod:`.upkeep`); what is left for here are entries that
were not used for long, and those of regions that no program names any more. When an entry was last
used is its ``rank``, by the clock that counts the machine's pauses: under FIFO it is the write.

Free pages inside the file are moved to its end and cut off, some at a time
(``PRAGMA incremental_vacuum``). A ``VACUUM`` would copy the file, and hold its lock all the while.
"""

from __future__ import annotations

from typing import Final

from ...types import RemovalCause
from ...upkeep import Cleaned, Space
from .attachment import Attachment
from .rows import EntryRow
from .schema import live
from .transaction import Transaction

__all__ = ["DiskUpkeep"]

_BATCH: Final = live(
    """SELECT e.id, e.key, e.version, e.deadline, e.weight, e.uses, e.rank, e.written,
        r.name, r.cleared, :live
    FROM entries AS e JOIN regions AS r ON r.id = e.region
    WHERE e.id > ? ORDER BY e.id LIMIT ?"""
)
_INCREMENTAL: Final = 2
_FILE: Final = "cache file"


class DiskUpkeep:
    """See :mod:`clusterdb.cache.upkeep`."""

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment

    async def count(self) -> int | None:
        def look(transaction: Transaction) -> int:
            [count] = transaction.rows.run("SELECT coalesce(sum(items), 0) FROM regions").fetchone()
            return int(count)

        return await self._attachment.do(look)

    async def clean(self, cursor: str, older_than: float, limit: int) -> Cleaned:
        if not cursor:  # ranks are written once a second
            attached = await self._attachment.get()
            await attached.settle()
        after = int(cursor or 0)
        return await self._attachment.do(
            lambda transaction: _clean(transaction, after, older_than, limit)
        )

    async def space(self) -> list[Space]:
        return await self._attachment.do(_space)

    async def compact(self, name: str, limit: int) -> tuple[int, str]:
        del name  # there is one file
        return await self._attachment.do(lambda transaction: _vacuum(transaction, limit))


def _clean(transaction: Transaction, after: int, older_than: float, limit: int) -> Cleaned:
    rows = transaction.rows
    before = rows.now - older_than
    found = rows.run(_BATCH, (after, limit)).fetchall()
    removed = freed = 0
    for *columns, region, cleared, is_live in found:
        entry = EntryRow(*columns)
        if entry.version <= cleared:  # it is counted no more
            rows.run("DELETE FROM entries WHERE id = ?", (entry.id,))
        elif not is_live:
            rows.discard(region, entry, None)
            rows.effects.count(region).invalidations += 1
        elif entry.deadline is not None and entry.deadline < before:
            rows.discard(region, entry, RemovalCause.EXPIRED)
        elif entry.rank < before * 1_000_000 and not region.startswith("#"):
            rows.discard(region, entry, RemovalCause.EVICTED)
        else:
            continue
        removed += 1
        freed += entry.weight
    last = str(found[-1][0]) if len(found) == limit else ""
    return Cleaned(cursor=last, looked=len(found), removed=removed, freed=freed)


def _pragma(transaction: Transaction, name: str) -> int:
    [value] = transaction.rows.run(f"PRAGMA {name}").fetchone()
    return int(value)


def _space(transaction: Transaction) -> list[Space]:
    page = _pragma(transaction, "page_size")
    size, dead = _pragma(transaction, "page_count"), _pragma(transaction, "freelist_count")
    advice = ""
    if _pragma(transaction, "auto_vacuum") != _INCREMENTAL:
        advice = (
            "the file was made without incremental vacuum: stop its programs, and run "
            "'PRAGMA auto_vacuum = 2; VACUUM;' on it with sqlite3"
        )
    return [Space(name=_FILE, size=size * page, dead=dead * page, advice=advice)]


def _vacuum(transaction: Transaction, pages: int) -> tuple[int, str]:
    before = _pragma(transaction, "page_count")
    transaction.rows.run(f"PRAGMA incremental_vacuum({int(pages)})").fetchall()
    given = before - _pragma(transaction, "page_count")
    return max(0, given) * _pragma(transaction, "page_size"), ""
