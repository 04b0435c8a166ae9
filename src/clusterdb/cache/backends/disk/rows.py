"""The rows of a cache file inside one write transaction: entries, their order, the log of changes.

It knows how entries are stored, evicted, expired and given back; what a call means is
:mod:`.transaction`'s. What readers of this process must do once the transaction is committed is
collected in :class:`Effects`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec

from ...codec import Encoded
from ...errors import CacheError, EntryTooLarge
from ...protocols import ChangeKind
from ...residents import Removal
from ...settings import RegionSettings
from ...stats import Counters
from ...types import RemovalCause, Version
from ...units import ByteSize
from .schema import CHANGES_KEPT, live, tags_column

__all__ = ["AliveRow", "Effects", "EntryRow", "Known", "RegionRow", "Rows"]

AliveRow: TypeAlias = tuple[Version, float | None, str | None, bytes]
"""Version, deadline in stored time, tags, envelope."""

_EXPIRE_FIRST: Final = 16
_TRIM_EVERY: Final = 1_000
_LARGEST: Final = 900_000_000  # SQLite takes 10^9 bytes a row

_ALIVE: Final = live(
    """SELECT e.version, e.deadline, e.tags, e.value
    FROM entries AS e JOIN regions AS r ON r.id = e.region
    WHERE e.region = ? AND e.key = ? AND (e.deadline IS NULL OR e.deadline > ?) AND :live"""
)
_PURGE: Final = live(
    """SELECT e.id, e.key, e.version, e.deadline, e.weight, e.uses, e.rank, e.written, r.name, :live
    FROM entries AS e JOIN regions AS r ON r.id = e.region
    WHERE e.id > ? ORDER BY e.id LIMIT ?"""
)


class Effects:
    """What a transaction did, for this process: its changes, the number of the last change there
    is, entries that left by themselves, and figures.
    """

    def __init__(self) -> None:
        self.changes: list[tuple[Version, ChangeKind, str, str]] = []
        self.removals: list[tuple[str, Removal]] = []
        self.counters: dict[str, Counters] = {}
        self.seq: Version = 0

    def count(self, region: str) -> Counters:
        """The figures of a region."""
        found = self.counters.get(region)
        if found is None:
            found = self.counters[region] = Counters()
        return found


class RegionRow(msgspec.Struct):
    """A region as the file has it, and whether that is to be written back."""

    id: int
    policy: str
    items: int
    weight: int
    cleared: Version
    changed: bool = False


class Known(msgspec.Struct):
    """What a writer knows of the file while nobody else has written to it (``state`` is SQLite's
    number for that): the last change, by how much versions are above the numbers of changes, its
    regions, whether there may be claims; and the last rank it gave.
    """

    state: int = -1
    seq: int = 0
    lift: int = 0
    claims: bool = True
    rank: int = 0
    regions: dict[str, RegionRow] = msgspec.field(default_factory=dict)


class EntryRow(msgspec.Struct):
    """An entry without its value."""

    id: int
    key: str
    version: Version
    deadline: float | None
    weight: int
    uses: int
    rank: int
    written: int


class Rows:
    """The rows, in ``connection``, whose statements ``run`` runs; ``now`` is in stored time,
    ``wall`` for those who read the log.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        known: Known,
        settings: Mapping[str, RegionSettings],
        member: int,
        origin: str,
        now: float,
        wall: float,
    ) -> None:
        self.run = connection.execute
        self.settings = settings
        self.member = member
        self.now = now
        self.effects = Effects()
        self._origin = origin
        self._wall = wall
        self._known = known
        [state] = self.run("PRAGMA data_version").fetchone()
        if state != known.state:
            known.state = state
            [known.seq] = self.run("SELECT coalesce(max(seq), 0) FROM changes").fetchone()
            [known.lift] = self.run("SELECT lift FROM meta").fetchone()
            known.regions.clear()
            known.claims = True
        self._first = known.seq
        if known.claims:
            known.claims = self.run("SELECT 1 FROM claims LIMIT 1").fetchone() is not None

    def finish(self) -> None:
        """Write back what was counted in memory."""
        self.effects.seq = self.seq
        for row in self._known.regions.values():
            if row.changed:
                self.run(
                    "UPDATE regions SET items = ?, weight = ?, cleared = ? WHERE id = ?",
                    (row.items, row.weight, row.cleared, row.id),
                )
                row.changed = False
        if self.seq // _TRIM_EVERY != self._first // _TRIM_EVERY:
            self.run("DELETE FROM changes WHERE seq <= ?", (self.seq - CHANGES_KEPT,))

    @property
    def seq(self) -> int:
        """The number of the last change."""
        return self._known.seq

    def log(self, kind: ChangeKind, region: str, key: str, version: Version | None = None) -> int:
        """Number a change and note it, with the version of what it wrote if that has its own, for
        the other processes.
        """
        self._known.seq = seq = self._known.seq + 1
        version = seq + self._known.lift if version is None else version
        self.run(
            "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, kind, region, key, self.member, self._origin, self._wall, version),
        )
        self.effects.changes.append((seq, kind, region, key))
        return seq

    def draw_above(self, version: Version) -> None:
        """Give every later change a version above ``version``."""
        if version > self.seq + self._known.lift:
            self._known.lift = version - self.seq
            self.run("UPDATE meta SET lift = ?", (self._known.lift,))

    def _next_rank(self) -> int:
        """A moment after every rank this process gave."""
        self._known.rank = max(self._known.rank + 1, int(self.now * 1_000_000))
        return self._known.rank

    # -- looking

    def region(self, name: str) -> RegionRow:
        """The row of a region."""
        row = self._known.regions.get(name)
        if row is None:
            found = self.run(
                "SELECT id, policy, items, weight, cleared FROM regions WHERE name = ?", (name,)
            ).fetchone()
            if found is None:
                raise CacheError(f"region {name!r} is not in the file: this is a bug")
            row = self._known.regions[name] = RegionRow(*found)
        return row

    def alive(self, region: str, key: str) -> AliveRow | None:
        """The row of a live entry."""
        found: AliveRow | None = self.run(
            _ALIVE, (self.region(region).id, key, self.now)
        ).fetchone()
        return found

    def entry(self, region: str, key: str) -> EntryRow | None:
        """The row of a key, alive or not; ``None`` also for what was cleared."""
        row = self.region(region)
        found = self.run(
            """SELECT id, key, version, deadline, weight, uses, rank, written FROM entries
            WHERE region = ? AND key = ? AND written > ?""",
            (row.id, key, row.cleared),
        ).fetchone()
        return None if found is None else EntryRow(*found)

    def held(self, region: str, key: str) -> bool:
        """Whether a live claim is on a key: its holder was heard of, and its tags have not ended
        since.
        """
        return self._known.claims and bool(
            self.run(
                """SELECT 1 FROM claims AS c JOIN members AS m ON m.id = c.member
                WHERE c.region = ? AND c.key = ? AND m.seen + c.lease > ?
                AND NOT EXISTS (SELECT 1 FROM json_each(c.tags) AS own CROSS JOIN tags AS t
                    ON t.name = own.key WHERE t.ended > own.value)""",
                (self.region(region).id, key, self.now),
            ).fetchone()
        )

    def claimed(self) -> None:
        """There are claims now."""
        self._known.claims = True

    def deadline(self, ttl: float | None) -> float | None:
        """When what is stored now expires, in stored time."""
        return None if ttl is None else self.now + ttl

    def weigh(self, region: str, key: str, value: Encoded) -> int:
        """Payload and key in bytes. Raises :class:`EntryTooLarge` for what could never fit."""
        weight = len(value.payload) + len(key.encode())
        limit = self.settings[region].max_weight
        limit = _LARGEST if limit is None else min(limit, _LARGEST)
        if weight > limit:
            self.effects.count(region).rejections += 1
            raise EntryTooLarge(key, weight, ByteSize(limit))
        return weight

    # -- storing and removing

    def store(
        self,
        region: str,
        key: str,
        value: Encoded,
        deadline: float | None,
        weight: int,
        tags: tuple[str, ...],
        version: Version | None = None,
    ) -> Version:
        """Put in or overwrite, as ``version`` if one is given, end the claim on the key, and make
        room.
        """
        settings, row = self.settings[region], self.region(region)
        self.end_claim(region, key)
        written = self.log("set", region, key, version)
        version = written + self._known.lift if version is None else version
        codec = settings.codec
        assert codec is not None, "a region of an encoding backend has a codec"
        expires_at = None if deadline is None else self._wall + deadline - self.now
        nonces = [(tag, 0) for tag in tags]
        data = codec.seal(key, version, value, expires_at=expires_at, tags=nonces)
        old = self.entry(region, key)
        uses, rank = 1, self._next_rank()
        if old is not None:
            row.items -= 1
            row.weight -= old.weight
            uses = old.uses + 1 if row.policy == "lfu" else 1
            rank = old.rank if row.policy == "fifo" else rank
        self.run(
            """INSERT INTO entries
            (region, key, version, written, deadline, weight, uses, rank, tags, value)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (region, key) DO UPDATE SET
            version = excluded.version, written = excluded.written, deadline = excluded.deadline,
            weight = excluded.weight, uses = excluded.uses, rank = excluded.rank,
            tags = excluded.tags, value = excluded.value""",
            (row.id, key, version, written, deadline, weight, uses, rank, tags_column(tags), data),
        )
        row.items += 1
        row.weight += weight
        row.changed = True
        self.effects.count(region).sets += 1
        self.make_room(region, written)
        return version

    def discard(self, region: str, entry: EntryRow, cause: RemovalCause | None) -> None:
        """Delete a row that counts in its region. A cause is one of those by which entries leave
        by themselves: it is told and counted.
        """
        row = self.region(region)
        self.run("DELETE FROM entries WHERE id = ?", (entry.id,))
        row.items -= 1
        row.weight -= entry.weight
        row.changed = True
        if cause is None:
            return
        self.effects.removals.append((region, (entry.key, entry.version, cause)))
        if cause is RemovalCause.EVICTED:
            self.effects.count(region).evictions += 1
            self.log("evict", region, entry.key)
        else:
            self.effects.count(region).expirations += 1

    def make_room(self, region: str, spared: int = 0) -> None:
        """Evict in order until the limits hold, some expired ones first; never what the change
        ``spared`` wrote.
        """
        if self._too_full(region):
            self.expire(region, _EXPIRE_FIRST)
        row = self.region(region)
        while self._too_full(region):
            found = self.run(
                """SELECT id, key, version, deadline, weight, uses, rank, written FROM entries
                WHERE region = ? AND written > ? AND written != ? ORDER BY uses, rank LIMIT 1""",
                (row.id, row.cleared, spared),
            ).fetchone()
            if found is None:
                return
            self.discard(region, EntryRow(*found), RemovalCause.EVICTED)

    def _too_full(self, region: str) -> bool:
        settings, row = self.settings[region], self.region(region)
        items, weight = settings.max_items, settings.max_weight
        return (items is not None and row.items > items) or (
            weight is not None and row.weight > weight
        )

    def expire(self, region: str, limit: int) -> int:
        """Remove at most ``limit`` entries that are past their deadline and grace."""
        row = self.region(region)
        rows = self.run(
            """SELECT id, key, version, deadline, weight, uses, rank, written FROM entries
            WHERE region = ? AND deadline <= ? AND written > ? LIMIT ?""",
            (row.id, self.now - self.settings[region].grace, row.cleared, limit),
        ).fetchall()
        for found in rows:
            self.discard(region, EntryRow(*found), RemovalCause.EXPIRED)
        return len(rows)

    def end_claim(self, region: str, key: str) -> None:
        """End the claim on a key."""
        if self._known.claims:
            self.run(
                "DELETE FROM claims WHERE region = ? AND key = ?", (self.region(region).id, key)
            )

    def fenced(self, region: str, key: str) -> bool:
        """Whether a fence is on a key."""
        return self._known.claims and bool(
            self.run(
                "SELECT 1 FROM claims WHERE region = ? AND key = ? AND token < 0",
                (self.region(region).id, key),
            ).fetchone()
        )

    # -- upkeep

    def purge(self, after: int, limit: int) -> int:
        """Remove the cleared and dead ones of the next ``limit`` rows behind the row ``after``, of
        all regions; the last row looked at, 0 at the end.
        """
        rows = self.run(_PURGE, (after, limit)).fetchall()
        for *found, region, is_live in rows:
            if is_live:
                continue
            entry = EntryRow(*found)
            if entry.written > self.region(region).cleared:
                self.discard(region, entry, None)
                self.effects.count(region).invalidations += 1
            else:
                self.run("DELETE FROM entries WHERE id = ?", (entry.id,))
        return int(rows[-1][0]) if len(rows) == limit else 0

    def forget_tags(self, before: Version) -> None:
        """No entry is older than ``before``: tags that ended before may be forgotten, unless a
        claim may be older.
        """
        self.run(
            "DELETE FROM tags WHERE ended < ? AND NOT EXISTS (SELECT 1 FROM claims)", (before,)
        )

    def used(self, region: str, uses: Mapping[str, int]) -> None:
        """Entries were read, in this order, each so many times."""
        row = self.region(region)
        if row.policy == "fifo":
            return
        for key, times in uses.items():
            self.run(
                "UPDATE entries SET rank = ?, uses = uses + ? WHERE region = ? AND key = ?",
                (self._next_rank(), times if row.policy == "lfu" else 0, row.id, key),
            )

    def count(self, region: str, counters: Mapping[str, int]) -> None:
        """Add to the figures that all processes share."""
        row = self.region(region)
        [text] = self.run("SELECT counters FROM regions WHERE id = ?", (row.id,)).fetchone()
        known = json.loads(text)
        for name, count in counters.items():
            known[name] = known.get(name, 0) + count
        self.run("UPDATE regions SET counters = ? WHERE id = ?", (json.dumps(known), row.id))

    def apply_settings(self, region: str, uses: Mapping[str, int]) -> tuple[object, ...] | None:
        """Make the region's row; bring it, after the last ``uses``, under its present policy and
        limits. Those it had, if they were others.
        """
        settings = self.settings[region]
        policy = settings.policy
        before = self.run(
            "SELECT policy, max_items, max_weight FROM regions WHERE name = ?", (region,)
        ).fetchone()
        self.run(
            """INSERT INTO regions (name, policy, max_items, max_weight) VALUES (?, ?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET
            max_items = excluded.max_items, max_weight = excluded.max_weight""",
            (region, policy, settings.max_items, settings.max_weight),
        )
        self.used(region, uses)
        row = self.region(region)
        if row.policy != policy:
            self._change_policy(row, policy)
        self.make_room(region)
        return None if before == (policy, settings.max_items, settings.max_weight) else before

    def _change_policy(self, row: RegionRow, policy: str) -> None:
        """Keep the old order: the uses that came first are flattened into the ranks."""
        order = self.run(
            "SELECT id FROM entries WHERE region = ? ORDER BY uses, rank", (row.id,)
        ).fetchall()
        for (found,) in order:
            rank = self._next_rank()
            self.run("UPDATE entries SET uses = 1, rank = ? WHERE id = ?", (rank, found))
        self.run("UPDATE regions SET policy = ? WHERE id = ?", (policy, row.id))
        row.policy = policy
