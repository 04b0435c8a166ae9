"""A group of changes in one transaction: lock and look, judge, write.

Two statements, whatever the number. Where the server refuses one row the group is made again in
halves, each under a savepoint, until that row is found; the rest goes on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import msgspec

from ...codec import Encoded
from ...errors import CacheError, RowRefused, StorageUnavailable
from ...rows import RowChange, RowWritten
from ...types import MISSING
from ..judging import ABSENT, Held, judge
from .faults import refusal
from .sessions import Session
from .statements import Statements

__all__ = ["Group", "SplitNeeded"]

_MOST_VERSION: Final = 2**63 - 1
_ROUNDS: Final = 5
_UNDO: Final = "ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one"


class SplitNeeded(Exception):
    """The server refuses something of the group: it has to be made again, with care."""


class _Put(msgspec.Struct, frozen=True):
    """One row to be written."""

    at: int
    change: RowChange
    version: int
    known: bool
    kept: Any


class Group:
    """Changes of different keys. ``careful``: find rows that are refused."""

    def __init__(
        self, statements: Statements, origin: str, changes: Sequence[RowChange], *, careful: bool
    ) -> None:
        self._statements = statements
        self._origin = origin
        self._careful = careful
        self._changes = changes
        self._versions = [0] * len(changes)
        self._outcomes: list[RowWritten | CacheError | None] = [None] * len(changes)

    async def make(
        self, session: Session, *, atomic: bool
    ) -> tuple[list[RowWritten | CacheError], bool]:
        """Make the changes in the transaction that was begun. Their outcomes, and whether there is
        something to commit. Raises :class:`SplitNeeded`.
        """
        waiting = [at for at, change in enumerate(self._changes) if self._is_sound(at, change)]
        waiting.sort(key=lambda at: (self._changes[at].region, self._changes[at].key))
        for _ in range(_ROUNDS):
            if not waiting:
                break
            waiting = await self._round(session, waiting)
        else:
            raise StorageUnavailable("rows were made and removed by others again and again")
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        applied = [isinstance(it, RowWritten) and it.applied for it in outcomes]
        if not atomic or all(applied):
            return outcomes, True
        undone: list[RowWritten | CacheError] = [
            RowWritten(applied=False, version=version)
            if isinstance(outcome, RowWritten)
            else outcome
            for outcome, version in zip(outcomes, self._versions, strict=True)
        ]
        return undone, False

    def _is_sound(self, at: int, change: RowChange) -> bool:
        """Whether a change has a form on the wire; else that is its outcome."""
        if any("\0" in text for text in (change.region, change.key, *change.tags)):
            reason = "a text column takes no NUL character; use another key, or no such tag"
            self._outcomes[at] = RowRefused(change.key, "22021", reason)
        elif change.version is not None and change.version > _MOST_VERSION:
            reason = f"version {change.version} is over {_MOST_VERSION}"
            self._outcomes[at] = RowRefused(change.key, "22003", reason)
        return self._outcomes[at] is None

    async def _round(self, session: Session, waiting: Sequence[int]) -> list[int]:
        """Lock, judge and write; the changes whose rows others made in between."""
        changes = [self._changes[at] for at in waiting]
        found = await session.fetch(
            self._statements.lock,
            [change.region for change in changes],
            [change.key for change in changes],
        )
        held = {(row[0], row[1]): Held(row[2], row[3], row[4]) for row in found}
        puts: list[_Put] = []
        for at, change in zip(waiting, changes, strict=True):
            there = held.get((change.region, change.key))
            before = there or ABSENT
            verdict = judge(change, before)
            self._versions[at] = before.version
            self._outcomes[at] = verdict.written
            if verdict.writes:
                kept = before.expiry if change.keep_ttl and before.live else None
                version = verdict.written.version
                puts.append(_Put(at, change, version, there is not None, kept))
        done = await self._put(session, puts)
        return [put.at for put in puts if put.at not in done]

    async def _put(self, session: Session, puts: Sequence[_Put]) -> set[int]:
        """Write rows; which were, or are refused."""
        if not puts:
            return set()
        if not self._careful:
            try:
                return await self._send(session, puts)
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if refusal(puts[0].change.key, error) is None:
                    raise
                raise SplitNeeded from error
        await session.execute("SAVEPOINT one")
        try:
            done = await self._send(session, puts)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            refused = refusal(puts[0].change.key, error)
            if refused is None:
                raise
            refused.__cause__ = error
        else:
            await session.execute("RELEASE SAVEPOINT one")
            return done
        await session.execute(_UNDO)
        if len(puts) == 1:
            self._outcomes[puts[0].at] = refused
            return {puts[0].at}
        half = len(puts) // 2
        return await self._put(session, puts[:half]) | await self._put(session, puts[half:])

    async def _send(self, session: Session, puts: Sequence[_Put]) -> set[int]:
        columns = list(zip(*[_columns(put) for put in puts], strict=True))
        rows = await session.fetch(self._statements.put, *map(list, columns), self._origin)
        written = {(row[0], row[1]) for row in rows}
        return {put.at for put in puts if (put.change.region, put.change.key) in written}


def _columns(put: _Put) -> tuple[object, ...]:
    """A row, in the order of the statement's parameters."""
    change = put.change
    gone = change.value is MISSING
    encoded: Encoded = Encoded(b"", 0) if gone else change.value
    return (
        change.region,
        change.key,
        None if gone else encoded.payload,
        encoded.codec,
        encoded.flags,
        put.version,
        put.known,
        gone,
        None if gone else put.kept,
        None if gone or put.kept is not None else change.ttl,
        json.dumps(() if gone else change.tags),
    )
