"""Reads of storage, shared: what callers miss in one turn of the loop is one query.

While some queries run, those who come meanwhile are collected for the next one. Nobody joins a
query that was already sent: a row that was written since would be read as it was before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ..rows import Row, Storage

__all__ = ["Asking"]

_AT_ONCE: Final = 4
"""Queries that run at a time."""

_MOST: Final = 5_000
"""Keys of a query."""


class _Query:
    """A query that is not sent yet."""

    def __init__(self, region: str, answer: asyncio.Future[dict[str, Row]]) -> None:
        self.region = region
        self.keys: dict[str, None] = {}
        self.answer = answer


class Asking:
    """The queries of one storage in one event loop."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._collected: list[_Query] = []
        self._running: set[asyncio.Task[None]] = set()
        self._planned = False
        self.queries = 0
        self.rows = 0

    async def rows_of(self, region: str, keys: Sequence[str]) -> dict[str, Row]:
        """The live rows under ``keys``, as they are at some moment after this call. Raises
        :class:`StorageUnavailable`. Cost: at most one query, shared.
        """
        query = self._query(region)
        query.keys.update(dict.fromkeys(keys))
        self._plan()
        found = await asyncio.shield(query.answer)
        return {key: found[key] for key in keys if key in found}

    def _query(self, region: str) -> _Query:
        for query in self._collected:
            if query.region == region and len(query.keys) < _MOST:
                return query
        query = _Query(region, asyncio.get_running_loop().create_future())
        self._collected.append(query)
        return query

    def _plan(self) -> None:
        """Send what is collected at the end of this turn, if there is a way to."""
        if not self._planned and self._collected and len(self._running) < _AT_ONCE:
            self._planned = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._planned = False
        while self._collected and len(self._running) < _AT_ONCE:
            task = asyncio.create_task(self._ask(self._collected.pop(0)))
            self._running.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._plan()

    async def _ask(self, query: _Query) -> None:
        self.queries += 1
        try:
            rows = await self._storage.read(query.region, list(query.keys))
        except Exception as error:  # noqa: BLE001 - it is the callers'
            if not query.answer.done():
                query.answer.set_exception(error)
                query.answer.exception()  # all who asked may be gone
            return
        found = {row.key: row for row in rows if row is not None}
        self.rows += len(found)
        if not query.answer.done():
            query.answer.set_result(found)

    async def aclose(self) -> None:
        """Cancel what runs."""
        for query in self._collected:
            query.answer.cancel()
        self._collected.clear()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
