"""One change of a row on its way to storage."""

from __future__ import annotations

import asyncio

from ..protocols import Put
from ..rows import RowChange, RowWritten

__all__ = ["Item"]


class Item:
    """A change of a row, and what is cached of it: ``copy``, or nothing. ``fenced``: put a fence
    before the commit, else invalidate after it; ``strict``: fail without a fence.
    """

    __slots__ = ("change", "copy", "done", "fenced", "key", "place", "region", "strict")

    def __init__(
        self, change: RowChange, copy: Put | None, fenced: bool = True, strict: bool = False
    ) -> None:
        self.change = change
        self.region: str = change.region
        self.key: str = change.key
        self.place = (self.region, self.key)
        self.copy = copy
        self.fenced = fenced
        self.strict = strict
        self.done: asyncio.Future[RowWritten] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: RowWritten | BaseException) -> None:
        """Tell the caller, if it still waits."""
        if self.done.done():
            return
        if isinstance(outcome, BaseException):
            self.done.set_exception(outcome)
            self.done.exception()  # nobody may wait for it
        else:
            self.done.set_result(outcome)
