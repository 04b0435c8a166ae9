"""One write transaction: the changes of many calls, each atomic by itself.

Everything here runs in the writer's thread, between ``BEGIN IMMEDIATE`` and ``COMMIT``. A change
checks first and writes then, so that one that is refused leaves nothing behind.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from ...codec import CodecId, Encoded, addend, bounded
from ...errors import Undecodable
from ...protocols import (
    Add,
    Change,
    ChangeKind,
    Check,
    Committed,
    Drop,
    Exported,
    Overwrite,
    Put,
    Touch,
    Written,
)
from ...stats import NearFigures
from ...types import RemovalCause, Version
from ..restoring import is_over
from .rows import AliveRow, Rows
from .schema import stored_tag, stored_tags

__all__ = ["Token", "Transaction"]


class Token(msgspec.Struct, frozen=True):
    """A claim as the file has it: its random number, the last change before it, and how far each of
    its tags had come.
    """

    number: int
    seq: Version
    tags: dict[str, Version]


class Transaction:
    """The changes, on ``rows``."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    # -- changes

    def write(self, region: str, change: Change) -> Written:
        """Carry out one change. Raises a :class:`CacheError` where it is refused."""
        if isinstance(change, Put):
            return self._put(region, change)
        if isinstance(change, Drop):
            return Written(applied=self._drop(region, change))
        if isinstance(change, Add):
            return self._add(region, change)
        return self._touch(region, change)

    def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        """All changes if all checks hold."""
        for key, version in checks:
            found = self.rows.alive(region, key)
            if (None if found is None else found[0]) != version:
                return None
        for change in changes:
            if isinstance(change, Put):
                self.rows.weigh(region, change.key, change.value)
        return Committed(tuple([self.write(region, change) for change in changes]))

    def restore(
        self, region: str, entry: Exported, value: Encoded, overwrite: Overwrite
    ) -> Written:
        """Store an entry under its own version, if nothing forbids it."""
        key, version, left = entry.key, entry.version, entry.expires_in
        found = self.rows.alive(region, key)
        lower = overwrite == "older" and found is not None and found[0] < version
        may = found is None or lower or overwrite == "always"
        if not may or is_over(entry) or self.rows.held(region, key):
            return Written(applied=False)
        weight = self.rows.weigh(region, key, value)
        self.rows.draw_above(version)
        deadline = self.rows.deadline(left)
        self.rows.store(region, key, value, deadline, weight, entry.tags, version)
        return Written(applied=True, version=version)

    def clear(self, region: str) -> int:
        """Remove every entry and claim of a region in O(1); rows are given back by upkeep."""
        row = self.rows.region(region)
        count = row.items
        row.cleared = self.rows.log("clear", region, "")
        row.items = row.weight = 0
        row.changed = True
        self.rows.run("DELETE FROM claims WHERE region = ?", (row.id,))
        return count

    def end_tags(self, tags: Sequence[str]) -> None:
        """End the present states of tags."""
        for tag in tags:
            ended = self.rows.log("invalidate_tag", "", tag)
            self.rows.run("INSERT OR REPLACE INTO tags VALUES (?, ?)", (stored_tag(tag), ended))

    def _put(self, region: str, put: Put) -> Written:
        weight = self.rows.weigh(region, put.key, put.value)
        deadline = self.rows.deadline(put.ttl)
        if put.when != "always" or put.keep_ttl:
            old = self.rows.alive(region, put.key)
            if put.when != "always" and (old is None) != (put.when == "absent"):
                return Written(applied=False)
            if put.keep_ttl and old is not None:
                deadline = old[1]
        version = self.rows.store(region, put.key, put.value, deadline, weight, put.tags)
        return Written(applied=True, version=version)

    def _drop(self, region: str, drop: Drop) -> bool:
        """Remove an entry and the claim on it; whether a live one was there. Where a fence is there
        is none.
        """
        if drop.cause is RemovalCause.INVALIDATED and self.rows.fenced(region, drop.key):
            return False
        alive = self.rows.alive(region, drop.key) is not None
        entry = self.rows.entry(region, drop.key)
        self.rows.end_claim(region, drop.key)
        deleted = drop.cause is RemovalCause.DELETED
        if entry is not None:
            expired = entry.deadline is not None and entry.deadline <= self.rows.now
            self.rows.discard(region, entry, RemovalCause.EXPIRED if expired else None)
            counters = self.rows.effects.count(region)
            if alive and deleted:
                counters.deletes += 1
            elif not expired and drop.cause is RemovalCause.INVALIDATED:
                counters.invalidations += 1
        gone: ChangeKind = "delete" if alive else "nothing"  # a load may not store all the same
        self.rows.log(gone if deleted else "invalidate", region, drop.key)
        return alive

    def _touch(self, region: str, touch: Touch) -> Written:
        found = self.rows.alive(region, touch.key)
        if found is None:
            return Written(applied=False)
        self.rows.run(
            "UPDATE entries SET deadline = ? WHERE region = ? AND key = ?",
            (self.rows.deadline(touch.ttl), self.rows.region(region).id, touch.key),
        )
        self.rows.used(region, {touch.key: 1})
        self.rows.log("touch", region, touch.key)
        return Written(applied=True, version=found[0])

    def _add(self, region: str, add: Add) -> Written:
        codec = self.rows.settings[region].codec
        assert codec is not None, "a region of an encoding backend has a codec"
        total, deadline = add.initial, self.rows.deadline(add.ttl)
        tags: tuple[str, ...] = ()
        found = self.rows.alive(region, add.key)
        if found is not None:
            try:
                sealed = codec.unseal(add.key, found[3])
            except Undecodable:  # what can't be read is not there
                found = None
            else:
                total, deadline = addend(add.key, sealed.encoded), found[1]
                tags = tuple([name for name, _ in sealed.tags])
        total = bounded(add.key, total + add.delta)
        value = Encoded(b"%d" % total, CodecId.INTEGER)
        weight = self.rows.weigh(region, add.key, value)
        version = self.rows.store(region, add.key, value, deadline, weight, tags)
        return Written(applied=True, version=version, total=total)

    # -- claims

    def claim(
        self, region: str, key: str, tags: Sequence[str], lease: float, number: int
    ) -> AliveRow | Token | None:
        """The live row; else a claim, by the random ``number``; else ``None``, as another holds
        one.
        """
        found = self.rows.alive(region, key)
        if found is not None:
            return found
        row = self.rows.region(region)
        if self.rows.held(region, key):
            return None
        seq = self.rows.seq
        token = Token(number, seq, dict.fromkeys(stored_tags(tuple(tags)), seq))
        self.rows.run(
            "INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?, ?, ?)",
            (row.id, key, token.number, self.rows.member, lease, json.dumps(token.tags)),
        )
        self.rows.claimed()
        self.heard_of()
        return token

    def fence(self, region: str, numbers: Sequence[tuple[str, int]], lease: float) -> list[Token]:
        """Remove the entry and the claim on each key, and claim it by its number: one below 0 is a
        fence's.
        """
        tokens = []
        for key, number in numbers:
            self._drop(region, Drop(key, RemovalCause.REPLACED))
            token = self.claim(region, key, (), lease, number)
            assert isinstance(token, Token)
            tokens.append(token)
        return tokens

    def extend(self, region: str, key: str, token: Token, tags: tuple[str, ...]) -> Token:
        """Let a claim depend on the present states of more tags."""
        seq = self.rows.seq
        more = Token(token.number, token.seq, dict.fromkeys(stored_tags(tags), seq) | token.tags)
        self.rows.run(
            "UPDATE claims SET tags = ? WHERE region = ? AND key = ? AND token = ?",
            (json.dumps(more.tags), self.rows.region(region).id, key, token.number),
        )
        return more

    def fill(self, region: str, token: Token, put: Put, tags: tuple[str, ...]) -> Written:
        """Store over a live claim with its tags, and end it."""
        if not self.release(region, put.key, token.number) or self._ended(token):
            return Written(applied=False)
        weight = self.rows.weigh(region, put.key, put.value)
        deadline = self.rows.deadline(put.ttl)
        version = self.rows.store(region, put.key, put.value, deadline, weight, tags)
        return Written(applied=True, version=version)

    def release(self, region: str, key: str, number: int) -> bool:
        """Give a claim back; whether it was still there."""
        ended = self.rows.run(
            "DELETE FROM claims WHERE region = ? AND key = ? AND token = ?",
            (self.rows.region(region).id, key, number),
        )
        return ended.rowcount > 0

    def heard_of(self) -> bool:
        """This process is alive, and so are its claims; whether it was still a member."""
        found = self.rows.run(
            "UPDATE members SET seen = ? WHERE id = ?", (self.rows.now, self.rows.member)
        )
        return found.rowcount > 0

    def does(self, figures: NearFigures) -> None:
        """How this process does."""
        self.rows.run(
            "UPDATE members SET near_hits = ?, near_misses = ?, lag = ? WHERE id = ?",
            (figures.near_hits, figures.near_misses, figures.lag, self.rows.member),
        )

    def _ended(self, token: Token) -> bool:
        """Whether a tag of a claim ended since it was taken."""
        for tag, seq in token.tags.items():
            found = self.rows.run("SELECT ended FROM tags WHERE name = ?", (tag,)).fetchone()
            if found is not None and found[0] > seq:
                return True
        return False
