"""A group of changes in one transaction: lock and look, judge, write.

Two statements, whatever the number; one where all rows are written whatever is there. Where the
server refuses one row the group is made again in halves, each under a savepoint, until that row is
found; the rest goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from ...errors import CacheError, RowRefused, StorageUnavailable
from ...rows import RowChange, RowWritten
from ...types import MISSING
from ..judging import ABSENT, Held, judge
from .faults import refusal
from .sessions import Session
from .table import Put, Statement, Table

__all__ = ["Group", "SplitNeeded"]

_MOST_VERSION: Final = 2**63 - 1
_ROUNDS: Final = 5
_REFUSED: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, RowRefused)
_UNDO: Final = "ROLLBACK TO SAVEPOINT one; RELEASE SAVEPOINT one"


class SplitNeeded(Exception):
    """The server refuses something of the group: it has to be made again, with care."""


class Group:
    """Changes of different keys. ``careful``: find rows that are refused."""

    def __init__(
        self, table: Table, origin: str, changes: Sequence[RowChange], *, careful: bool
    ) -> None:
        self._table = table
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
        for _ in range(_ROUNDS):
            if not waiting:
                break
            waiting = await self._round(session, waiting)
        else:
            raise StorageUnavailable("rows were made and removed by others again and again")
        outcomes = [outcome for outcome in self._outcomes if outcome is not None]
        applied = [type(it) is RowWritten and it.applied for it in outcomes]
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
        refused = self._table.refusal(change)
        if refused is not None:
            self._outcomes[at] = refused
        elif change.version is not None and change.version > _MOST_VERSION:
            reason = f"version {change.version} is over {_MOST_VERSION}"
            self._outcomes[at] = RowRefused(change.key, "22003", reason)
        return self._outcomes[at] is None

    async def _round(self, session: Session, waiting: Sequence[int]) -> list[int]:
        """Lock, judge and write; the changes whose rows others made in between."""
        changes = [self._changes[at] for at in waiting]
        if not self._careful and _are_plain(changes):
            statement = self._table.upsert(changes)
            if statement is not None:
                await self._upsert(session, waiting, statement)
                return []
        found = await session.fetch(
            self._table.lock,
            [change.region for change in changes],
            [self._table.stored(change.key) for change in changes],
        )
        held = {(row[0], row[1]): Held(row[2], row[3], row[4]) for row in found}
        known = {(row[0], row[1]) for row in found if row[5]}
        puts: list[Put] = []
        for at, change in zip(waiting, changes, strict=True):
            before = held.get((change.region, change.key), ABSENT)
            verdict = judge(change, before)
            self._versions[at] = before.version
            self._outcomes[at] = self._shown(verdict.written)
            if verdict.writes:
                kept = before.expiry if change.keep_ttl and before.live else None
                version = verdict.written.version
                puts.append(Put(at, change, version, (change.region, change.key) in known, kept))
        done = await self._put(session, puts)
        return [put.at for put in puts if put.at not in done]

    async def _upsert(self, session: Session, waiting: Sequence[int], statement: Statement) -> None:
        """Write whatever is there."""
        sql, arguments = statement
        try:
            rows = await session.fetch(sql, *arguments, self._origin)
        except _REFUSED as error:
            if refusal(self._changes[waiting[0]].key, error) is None:
                raise
            raise SplitNeeded from error
        written = _written(rows)
        for at in waiting:
            change = self._changes[at]
            versions = written.get(change.region)
            version = 0 if versions is None else versions.get(change.key, 0)
            self._outcomes[at] = RowWritten(True, version)

    def _shown(self, written: RowWritten) -> RowWritten:
        """The outcome without a version where the table keeps none."""
        versioned = "versions" in self._table.capabilities
        return written if versioned else RowWritten(written.applied, 0)

    async def _put(self, session: Session, puts: Sequence[Put]) -> set[int]:
        """Write rows; which were, or are refused."""
        if not puts:
            return set()
        if not self._careful:
            try:
                return await self._send(session, puts)
            except _REFUSED as error:
                if refusal(puts[0].change.key, error) is None:
                    raise
                raise SplitNeeded from error
        await session.execute("SAVEPOINT one")
        try:
            done = await self._send(session, puts)
        except _REFUSED as error:
            refused = refusal(puts[0].change.key, error)
            if refused is None:
                raise
            if refused is not error:
                refused.__cause__ = error
        else:
            await session.execute("RELEASE SAVEPOINT one")
            return done
        await session.execute(_UNDO)
        if len(puts) == 1:
            self._outcomes[puts[0].at] = refused
            return {puts[0].at}
        half = len(puts) // 2
        first = await self._put(session, puts[:half])
        return first | await self._put(session, puts[half:])

    async def _send(self, session: Session, puts: Sequence[Put]) -> set[int]:
        arguments = self._table.arguments(puts)
        written = _written(await session.fetch(self._table.put, *arguments, self._origin))
        done = set()
        for put in puts:
            version = written.get(put.change.region, {}).get(put.change.key)
            outcome = self._outcomes[put.at]
            if version is not None and type(outcome) is RowWritten:
                self._outcomes[put.at] = RowWritten(outcome.applied, version)
                done.add(put.at)
        return done


def _written(rows: Sequence[Any]) -> dict[str, dict[str, int]]:
    """The versions that the server says were written, by region and key."""
    return {region: dict(zip(keys, versions, strict=True)) for region, keys, versions, _ in rows}


def _are_plain(changes: Sequence[RowChange]) -> bool:
    """Whether rows are written whatever is there."""
    for change in changes:
        if (
            change.value is MISSING
            or change.when != "always"
            or change.expect is not None
            or change.version is not None
            or change.keep_ttl
        ):
            return False
    return True
